"""Diagnoses a logged model: are its files complete, and do the installed packages match those it was logged with?

The model's code is not run. Only the list of its files and the small ones are read, which is fast even with a remote store.
"""

import hashlib
import importlib.metadata
import json
import logging
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mlflow.exceptions import MlflowException
from mlflow.models import Model
from packaging.requirements import InvalidRequirement, Requirement

from models.batched_graph import READY
from models.packages import find_installed
from models.wrapper_code import WRAPPER, code_metadata
from phi3_ui.errors import UserError
from phi3_ui.host.sandbox_policy import COMPLETE_LANDLOCK, has_seccomp, landlock_version
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.registry.artifact_files import ArtifactFiles, classify_model
from phi3_ui.store.registry.logged_code import find_removed_api_in_pickle, find_removed_api_in_source

Severity = Literal["ok", "warning", "error"]
_BATCHED_GRAPH = "model.batched.onnx"  # the name in models/phi3_onnx_engine, which is slow to import
# Earlier releases logged this file with the wrapper, without a list of their code files.
_EARLIER_CODE = ["code/phi3_onnx_slots.py"]

# Each code has a message in i18n, doctor.<code>, which includes the remedy; remote_failed uses that of the error.
CODES: dict[str, Severity] = {
    "versions_match": "ok",
    "version_differs": "warning",
    "package_missing": "error",
    "python_differs": "warning",
    "old_api": "error",
    "code_unreadable": "error",
    "files_complete": "ok",
    "file_missing": "error",
    "file_empty": "error",
    "files_truncated": "error",
    "wrapper_current": "ok",
    "wrapper_outdated": "warning",
    "wrapper_changed": "error",
    "batched_graph": "ok",
    "unfit_graph": "ok",
    "no_batched_graph": "warning",
    "not_isolated": "warning",
    "partly_isolated": "warning",
    "unfiltered": "warning",
    # For models on a remote server.
    "remote_reachable": "ok",
    "remote_unseen": "ok",
    "remote_failed": "error",
    "remote_no_model": "error",
    "remote_not_configured": "error",
}

# MLflow writes these, and the folder `code`, after it has computed model_size_bytes.
_NOT_IN_MODEL_SIZE = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "registered_model_meta"}
_PATH_KEYS = ("data", "model_binary", "model_data", "pickled_model", "python_model")  # keys of a flavor in MLmodel


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    code: str
    """A key of CODES."""
    values: dict[str, str | int]
    """The values of the code's message."""

    @property
    def severity(self) -> Severity:
        """The severity of its code."""
        return CODES[self.code]


@dataclass(frozen=True)
class Diagnosis:
    """The results of all checks of one model."""

    model_id: str
    findings: tuple[Finding, ...]
    """Most severe first."""
    can_relog: bool
    """Whether one of the app's own programs logged the model, and can log it again."""

    @property
    def severity(self) -> Severity:
        """The severity of the most severe finding."""
        return self.findings[0].severity if self.findings else "ok"


def diagnose(tracking_uri: str, model_id: str) -> Diagnosis:
    """Check one logged model. Raises UserError: model_gone, model_unreadable, store_unreachable."""
    with translate_store_errors(tracking_uri), tempfile.TemporaryDirectory() as folder:
        files = ArtifactFiles(tracking_uri, model_id, Path(folder))
        info = files.load_mlmodel()
        if info is None:
            return Diagnosis(model_id, (_finding("file_missing", file="MLmodel"),), can_relog=False)
        try:
            findings = [
                *_check_versions(info, files),
                *_check_code(info, files),
                *_check_wrapper(info, files),
                *_check_batching(info),
                *_check_files(info, files),
                *check_isolation(),
            ]
        except (MlflowException, OSError):
            raise
        except Exception as error:
            # MLmodel, requirements and configurations may contain anything.
            logger.info("Could not diagnose %s", files.name, exc_info=error)
            raise UserError("model_unreadable", model=files.name, detail=type(error).__name__) from error
    findings.sort(key=lambda finding: ("error", "warning", "ok").index(finding.severity))
    return Diagnosis(model_id, tuple(findings), classify_model(info) is not None)


def _finding(code: str, **values: str | int) -> Finding:
    return Finding(code, values)


def _check_versions(info: Model, files: ArtifactFiles) -> Iterator[Finding]:
    mismatches, required = 0, _required_versions(info, files)
    for name, requirement in required.items():
        logged = str(requirement.specifier).removeprefix("==")
        try:
            installed = find_installed(name)[1]
        except importlib.metadata.PackageNotFoundError:
            mismatches += 1
            yield _finding("package_missing", package=name, logged=logged)
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            mismatches += 1
            yield _finding("version_differs", package=name, logged=logged, installed=installed)
    if required and not mismatches:
        yield _finding("versions_match", count=len(required))
    python, here = str(info.flavors.get("python_function", {}).get("python_version", "")), platform.python_version()
    if python and python.split(".")[:2] != here.split(".")[:2]:
        yield _finding("python_differs", logged=python, installed=here)


def _required_versions(info: Model, files: ArtifactFiles) -> dict[str, Requirement]:
    """Return the versions that requirements.txt and the flavors require, by package."""
    found = {}
    if info.mlflow_version:
        found["mlflow"] = Requirement(f"mlflow=={info.mlflow_version}")
    if version := info.flavors.get("transformers", {}).get("transformers_version"):
        found["transformers"] = Requirement(f"transformers=={version}")
    function = info.flavors.get("python_function", {})
    if "python_model" in function and function.get("cloudpickle_version"):
        found["cloudpickle"] = Requirement(f"cloudpickle=={function['cloudpickle_version']}")
    for line in (files.read("requirements.txt") or b"").decode(errors="replace").splitlines():
        try:
            requirement = Requirement(line.partition(" #")[0].strip())
        except InvalidRequirement:  # a comment, an option or a path
            continue
        if requirement.specifier and (requirement.marker is None or requirement.marker.evaluate()):
            found[requirement.name] = requirement
    return found


def _check_code(info: Model, files: ArtifactFiles) -> Iterator[Finding]:
    try:
        installed = find_installed("onnxruntime-genai")[1]
    except importlib.metadata.PackageNotFoundError:
        return  # _check_versions reports that it is not installed
    pickled = info.flavors.get("python_function", {}).get("python_model")
    for path in files.sizes:
        if not path.endswith(".py") and path != pickled:
            continue
        code = files.read(path) or b""
        try:
            removed = find_removed_api_in_pickle(code) if path == pickled else find_removed_api_in_source(code.decode())
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # Python's parser has limits
            yield _finding("code_unreadable", file=path, detail=str(error).rstrip("."))
            continue
        if removed:
            yield _finding("old_api", file=path, what=", ".join(removed), installed=installed)


def check_isolation() -> Iterator[Finding]:
    """Yield the restrictions of models' processes that this system does not support."""
    if (version := landlock_version()) == 0:
        yield _finding("not_isolated")
    elif version < COMPLETE_LANDLOCK:
        yield _finding("partly_isolated", version=version)
    if not has_seccomp():
        yield _finding("unfiltered")


def _check_wrapper(info: Model, files: ArtifactFiles) -> Iterator[Finding]:
    if classify_model(info) != "onnx":
        return
    path = _code_file(info) or WRAPPER.name
    if not files.contains(path):
        return  # _check_files reports it
    code = [path, *sorted(file for file in files.sizes if file.startswith("code/") and file.endswith(".py"))]
    digest = hashlib.sha256(b"".join(files.read(file) or b"" for file in code)).hexdigest()
    if digest != (info.metadata or {}).get("wrapper_sha256", digest):
        yield _finding("wrapper_changed", file=path)
    elif digest != code_metadata()["wrapper_sha256"]:
        yield _finding("wrapper_outdated")
    else:
        yield _finding("wrapper_current")


def _check_batching(info: Model) -> Iterator[Finding]:
    """Yield what the wrapper recorded about batching when it was logged; earlier releases recorded nothing."""
    metadata = info.metadata or {}
    if classify_model(info) != "onnx" or "code_files" not in metadata:
        return
    batching = metadata.get("batching")
    if batching == READY:
        yield _finding("batched_graph")
    elif batching:
        yield _finding("unfit_graph", detail=str(batching))
    elif find_spec("onnx") is None:  # otherwise the graph is built when the model is loaded
        yield _finding("no_batched_graph")


def _check_files(info: Model, files: ArtifactFiles) -> Iterator[Finding]:
    expected = {*_expected_paths(info), *_expected_weights(files)}
    missing = [_finding("file_missing", file=path) for path in sorted(expected) if not files.contains(path)]
    # An empty Python module is valid.
    empty = [
        _finding("file_empty", file=path) for path, n in files.sizes.items() if n == 0 and not path.endswith(".py")
    ]
    yield from (*missing, *empty)
    if missing or empty:
        return
    sizes = [n for path, n in files.sizes.items() if path not in _NOT_IN_MODEL_SIZE and not path.startswith("code/")]
    if None not in sizes and (short := (info.model_size_bytes or 0) - sum(size or 0 for size in sizes)) > 0:
        yield _finding("files_truncated", missing_mb=f"{short / 1e6:.3f}")
    else:
        yield _finding("files_complete", count=len(files.sizes))


def _code_file(info: Model) -> str:
    """Return the file of a model logged from code. MLmodel has the original path; the logged file keeps its name."""
    return PurePosixPath(str(info.flavors.get("python_function", {}).get("model_code_path") or "")).name


def _expected_paths(info: Model) -> Iterator[str]:
    """Yield the files and folders that MLmodel refers to."""
    for flavor in info.flavors.values():
        yield from (path for key in _PATH_KEYS if isinstance(path := flavor.get(key), str))
        yield from (artifact["path"] for artifact in (flavor.get("artifacts") or {}).values())
        environment = flavor.get("env")
        yield from environment.values() if isinstance(environment, dict) else []
        if "model_binary" in flavor:
            yield from (f"components/{component}" for component in flavor.get("components") or [])
    if code := _code_file(info):
        yield code
        if classify_model(info) == "onnx" and info.flavors["python_function"].get("code"):
            declared = (info.metadata or {}).get("code_files", _EARLIER_CODE)
            yield from (path for path in declared if path.startswith("code/"))
    for artifact in (
        (info.flavors.get("python_function", {}).get("artifacts") or {}).values() if classify_model(info) else ()
    ):
        added = [_BATCHED_GRAPH] if (info.metadata or {}).get("batching") == READY else []
        yield from (f"{artifact['path']}/{file}" for file in ("genai_config.json", "tokenizer.json", *added))


def _expected_weights(files: ArtifactFiles) -> Iterator[str]:
    """Yield the weight files that checkpoint indexes and ONNX configurations refer to."""
    for path in files.sizes:
        name, folder = PurePosixPath(path).name, PurePosixPath(path).parent
        if name != "genai_config.json" and not name.endswith(".safetensors.index.json"):
            continue
        try:
            content = json.loads(files.read(path) or b"{}")
            weights = set((content.get("weight_map") or {}).values()) | set(_filenames(content.get("model")))
        except (ValueError, TypeError, AttributeError) as error:
            logger.warning("%s of model %s cannot be parsed: %r", path, files.name, error)
            continue
        yield from (str(folder / weight) for weight in weights)


def _filenames(config: Any) -> Iterator[str]:
    """Yield the values of all keys `filename`, at any depth."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "filename" and isinstance(value, str):
                yield value
            else:
                yield from _filenames(value)
