"""Checks whether a model was logged by this project's own ONNX wrapper: released code, and data."""

import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from phi3_ui.store.registry.fingerprint import FolderListing, ModelFile
from phi3_ui.store.registry.onnx_file import find_external_files
from phi3_ui.store.registry.released_code import RELEASED, WRAPPER
from phi3_ui.store.registry.suspects import (
    ONNX_SUFFIXES,
    Entry,
    Suspect,
    check_flavors,
    check_json,
    check_keys,
    check_names,
    classify_name,
    hashes,
    list_entries,
)
from phi3_ui.store.registry.transformers_files import FUNCTION_KEYS

PYFUNC_LOADERS = {"mlflow.pyfunc.loaders.code_model", "mlflow.pyfunc.model"}
ARTIFACT = "phi3-mini-onnx"  # the name in models/phi3_onnx.py, whose import would load the engine

_WRAPPER_KEYS = FUNCTION_KEYS | {"artifacts", "cloudpickle_version", "model_code_path"}
_WRAPPER_OPTIONS = {"cache_mb", "end_tokens", "engine", "threads"}

# In a genai_config.json, only the names of files in the same folder may look like paths or libraries.
_PATH_LIKE = re.compile(r"[/\\\x00-\x1f]|\.(so|dll|dylib)(\.|$)", re.IGNORECASE)
_LIBRARY_KEY = re.compile(r"library|backend_path|plugin", re.IGNORECASE)


def check_wrapper(listing: FolderListing, mlmodel: dict[str, Any]) -> Iterator[Suspect]:
    """Yield what makes a model differ from one that our wrapper logged."""
    function = mlmodel["flavors"].get("python_function", {})
    yield from check_flavors(mlmodel, {"python_function"})
    if function.get("loader_module") not in PYFUNC_LOADERS:
        yield Suspect("MLmodel: loader_module", "loader")
    yield from check_keys(function, _WRAPPER_KEYS, _WRAPPER_OPTIONS)
    yield from _check_places(listing, function)
    data = []
    for file in listing.files:
        if file.path in RELEASED:
            if hashes.hash_file(file) not in RELEASED[file.path]:
                yield Suspect(file.path, "python")
        elif file.path.startswith("code/"):
            yield Suspect(file.path, classify_name(file.name) or "code_path")
        else:
            data.append(file)
    yield from check_onnx_folder(listing, data)


def check_onnx_folder(listing: FolderListing, data: Sequence[ModelFile]) -> Iterator[Suspect]:
    """Yield what makes the files `data` of a listing more than a model for ONNX Runtime GenAI."""
    external = yield from _check_onnx_files(listing, data)
    yield from check_names([file for file in data if file.path not in external], ONNX_SUFFIXES)
    for file in data:
        if file.name == "genai_config.json":
            yield from check_json(file, _check_genai_config)


def _check_places(listing: FolderListing, function: dict[str, Any]) -> Iterator[Suspect]:
    """Yield the entries of the flavor that refer to files other than our wrapper and its one artifact."""
    code = function.get("model_code_path")
    if not isinstance(code, str) or re.split(r"[/\\]", code)[-1] != WRAPPER or not listing.find(WRAPPER):
        yield Suspect("MLmodel: model_code_path", "code_path")
    if function.get("code") not in (None, "code"):
        yield Suspect("MLmodel: code", "code_path")
    artifacts = function.get("artifacts") or {}
    folder = str(artifacts.get(ARTIFACT, {}).get("path", ""))
    if artifacts.keys() != {ARTIFACT} or not re.fullmatch(r"artifacts/\w[\w.+-]*", folder, re.ASCII):
        yield Suspect("MLmodel: artifacts", "elsewhere")


def _check_genai_config(content: Any) -> Iterator[Entry]:
    """Yield the entries that make ONNX Runtime GenAI load a library or files of another folder."""
    for key, value in list_entries(content):
        if _LIBRARY_KEY.search(key) and value:
            yield key, "library"
        elif isinstance(value, str) and (_PATH_LIKE.search(value) or (key == "filename" and value[-5:] != ".onnx")):
            yield key, "elsewhere"


def _check_onnx_files(listing: FolderListing, files: Sequence[ModelFile]) -> Generator[Suspect, None, set[str]]:
    """Yield the ONNX files with weights outside their folder, and return the paths of the external weights."""
    external = set[str]()
    for file in files:
        if not file.name.endswith(".onnx"):
            continue
        folder = file.path.removesuffix(file.name)
        try:
            locations = find_external_files(file.real)
        except ValueError:
            yield Suspect(file.path, "unreadable")
            continue
        for location in locations:
            if "/" in location or "\\" in location or not listing.find(folder + location):
                yield Suspect(f"{file.path}: location", "elsewhere")
            elif not classify_name(location) or location.endswith(".bin"):
                external.add(folder + location)
    return external
