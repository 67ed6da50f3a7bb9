"""Suspects, that is anything that may run code when a model is loaded, and the checks that all kinds of models share."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from phi3_ui.store.registry.fingerprint import FileHashes, ModelFile

Reason = Literal[
    "python",
    "pickle",
    "binary",
    "unknown",
    "link",
    "special",
    "unreadable",
    "loader",
    "flavor",
    "setting",
    "code_path",
    "elsewhere",
    "remote_code",
    "library",
    "weights",
]
"""Why a file, or an entry of a configuration, may run code; i18n has a text for each, trust.reason.<reason>."""


@dataclass(frozen=True)
class Suspect:
    """Something that may run code when the model is loaded."""

    path: str
    """The file, relative to the model's folder, with the entry if it is one: `MLmodel: loader_module`."""
    reason: Reason


Entry = tuple[str, Reason]
"""The key of an entry of a configuration, and why it may run code."""

SAFETENSORS = ".safetensors"
ONNX_SUFFIXES = (".onnx", ".onnx.data", ".onnx_data", ".data")
DATA_SUFFIXES = (SAFETENSORS, *ONNX_SUFFIXES)
"""Suffixes of weights, which no library executes."""

hashes = FileHashes()
"""The hashes of the files of all models."""

_TEXT_SUFFIXES = (".json", ".txt", ".md", ".yaml", ".jinja", ".model")
_TEXT_NAMES = re.compile(r"MLmodel|registered_model_meta|(LICENSE|NOTICE|README)[\w.-]*")
_PLAIN_PATH = re.compile(r"[\w.+@=()-][\w .+@=()/-]*", re.ASCII)

_REASONS: tuple[tuple[Reason, re.Pattern[str]], ...] = (
    ("python", re.compile(r"\.(py|pyc|pyo|pyw|pyi|pth|ipynb)$")),
    ("pickle", re.compile(r"\.(pkl|pickle|joblib|dill|cloudpickle|pt|bin|ckpt|npy|npz|h5|keras)$")),
    ("binary", re.compile(r"\.(so|dll|dylib|pyd|exe|whl|egg|jar|zip|tar|gz|sh|bat|ps1)(\.|$)")),
)
_MAX_CONFIG = 4_000_000  # bytes
_MAX_TEXT = 200_000_000
"""The largest size in bytes of a file other than weights. Such files are copied when the model is loaded."""
_ELSEWHERE_KEYS = {"source_model_revision", "local_base_model_path", "peft_adaptor", "data"}


def check_flavors(mlmodel: dict[str, Any], allowed: set[str]) -> Iterator[Suspect]:
    """Yield the flavors of a model that are not allowed."""
    for name in mlmodel["flavors"].keys() - allowed:
        yield Suspect(f"MLmodel: {name}", "flavor")


def check_keys(flavor: dict[str, Any], allowed: set[str], options: set[str]) -> Iterator[Suspect]:
    """Yield the entries of a flavor that refer to code or another folder, and those of unknown meaning."""
    for key, value in flavor.items():
        if key in _ELSEWHERE_KEYS:
            yield Suspect(f"MLmodel: {key}", "elsewhere")
        elif key == "python_model":
            yield Suspect("MLmodel: python_model", "pickle")
        elif key not in allowed:
            yield Suspect(f"MLmodel: {key}", "setting")
        elif key == "code" and value is not None and value != "code":
            yield Suspect("MLmodel: code", "code_path")
    if "model_code_path" not in allowed and flavor.get("code"):
        yield Suspect("MLmodel: code", "code_path")
    for option, value in (flavor.get("config") or {}).items():
        if option not in options or not _is_plain(value):
            yield Suspect(f"MLmodel: config.{option}", "setting")


def _is_plain(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(one is None or isinstance(one, str | int | float | bool) for one in values)


def check_names(files: Iterable[ModelFile], weights: tuple[str, ...]) -> Iterator[Suspect]:
    """Yield the files that are neither of a known text format nor weights with one of these suffixes."""
    for file in files:
        # The wrapper's own files are checked elsewhere, by their paths and hashes.
        if file.path != "MLmodel" and file.name == "MLmodel":
            yield Suspect(file.path, "elsewhere")  # a loader would mistake its folder for the model
        elif reason := classify_name(file.name) or classify_name(file.real.name):
            yield Suspect(file.path, reason)
        elif not (
            _PLAIN_PATH.fullmatch(file.path)
            and (file.name.endswith((*_TEXT_SUFFIXES, *weights)) or _TEXT_NAMES.fullmatch(file.name))
        ):
            yield Suspect(file.path, "unknown")
        elif file.size > _MAX_TEXT and not file.name.endswith(weights):
            yield Suspect(file.path, "unreadable")


def classify_name(name: str) -> Reason | None:
    """Return why a file with this name may run code; None if its name does not show it."""
    return next((reason for reason, pattern in _REASONS if pattern.search(name.lower())), None)


def check_json(file: ModelFile, check: Callable[[Any], Iterator[Entry]]) -> Iterator[Suspect]:
    """Yield what `check` finds in the content of a JSON file, or that it cannot be read."""
    if file.size > _MAX_CONFIG:
        yield Suspect(file.path, "unreadable")
        return
    try:
        content = json.loads(file.real.read_bytes(), object_pairs_hook=_build_unique)
        found = list(check(content))
    except (ValueError, RecursionError, AttributeError, TypeError):
        yield Suspect(file.path, "unreadable")
        return
    for entry, reason in found:
        yield Suspect(f"{file.path}: {entry}", reason)


def _build_unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object. Raise ValueError if a key is repeated: some parsers use the first value, some the last, some both."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated")
    return found


def list_entries(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield key and value of every entry at any depth; for an item of a list, the key of the list."""
    pending = [("", content)]
    while pending:
        key, value = pending.pop()
        yield key, value
        if isinstance(value, dict):
            pending.extend(value.items())
        elif isinstance(value, list):
            pending.extend((key, item) for item in value)
