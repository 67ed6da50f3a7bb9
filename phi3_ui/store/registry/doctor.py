"""Is a logged model as it was logged, and does what it was logged with fit what is installed? Its code is not run.

Only the listing of its files and its small files are read, so that a remote store answers soon.
"""

import hashlib
import importlib.metadata
import json
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from packaging.requirements import InvalidRequirement, Requirement

from models.packages import find_installed
from phi3_ui.errors import UserError
from phi3_ui.paths import ROOT
from phi3_ui.store.errors import is_missing, translate_store_errors
from phi3_ui.store.registry.catalogue import ONNX_ARTIFACT
from phi3_ui.store.registry.logged_code import removed_in_pickle, removed_in_source

Severity = Literal["ok", "warning", "error"]

# What log_onnx.py puts into an artifact: the code that is loaded, and what it keeps beside it in `code`.
WRAPPER, SLOTS = ROOT / "models" / "phi3_onnx.py", ROOT / "models" / "phi3_onnx_slots.py"

# ui/i18n.py has a sentence for each, with its cure, as doctor.<code>.
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
}

_SMALL = 8_000_000  # bytes; more than any index, configuration or code that is read here
# Written by MLflow after it has measured model_size_bytes, as is the folder `code`.
_UNMEASURED = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "registered_model_meta"}
_NAMING = ("data", "model_binary", "model_data", "pickled_model", "python_model")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: a code of CODES and the values that its sentence needs."""

    code: str
    values: dict[str, str | int]

    @property
    def severity(self) -> Severity:
        return CODES[self.code]


@dataclass(frozen=True)
class Diagnosis:
    """What was found, the worst first. `can_relog` says that the app's own programs can log the model again."""

    model_id: str
    findings: tuple[Finding, ...]
    can_relog: bool

    @property
    def severity(self) -> Severity:
        return self.findings[0].severity if self.findings else "ok"


def diagnose(tracking_uri: str, model_id: str) -> Diagnosis:
    """Look at one logged model. UserError: model_gone, store_unreachable."""
    with translate_store_errors(tracking_uri), tempfile.TemporaryDirectory() as folder:
        files = ArtifactFiles(tracking_uri, model_id, Path(folder))
        info = files.info()
        if info is None:
            return Diagnosis(model_id, (_found("file_missing", file="MLmodel"),), can_relog=False)
        findings = [*_versions(info, files), *_code(info, files), *_wrapper(info, files), *_files(info, files)]
    worst_first = sorted(findings, key=lambda finding: ("error", "warning", "ok").index(finding.severity))
    return Diagnosis(model_id, tuple(worst_first), classify_model(info) is not None)


def classify_model(info: Model) -> Literal["pipeline", "onnx"] | None:
    """Which of the app's own programs logged a model; None if neither did."""
    declared: dict[str, Any] = info.metadata or {}
    function = info.flavors.get("python_function", {})
    if declared.get("contract") == "prompt" and ONNX_ARTIFACT in (function.get("artifacts") or {}):
        return "onnx"
    if declared.get("contract") == "chat" and "model_binary" in info.flavors.get("transformers", {}):
        return "pipeline"
    return None


class ArtifactFiles:
    """The files of a logged model: `sizes` in bytes by path (None: the store does not say), small ones read on demand."""

    def __init__(self, tracking_uri: str, model_id: str, scratch: Path) -> None:
        mlflow.set_tracking_uri(tracking_uri)
        try:
            model = MlflowClient(tracking_uri).get_logged_model(model_id)
        except MlflowException as error:
            if is_missing(error):
                raise UserError("model_gone") from error
            raise
        self.name = model.name
        self.run_id: str | None = model.source_run_id
        self.repository: ArtifactRepository = get_artifact_repository(model.artifact_location, tracking_uri)
        self._scratch = scratch
        self.sizes: dict[str, int | None] = dict(self._list(None))

    def read(self, path: str) -> bytes | None:
        """A small file's bytes; None if the store does not hold it, or it is not small."""
        if path not in self.sizes or (self.sizes[path] or 0) > _SMALL:
            return None
        return Path(self.repository.download_artifacts(path, str(self._scratch))).read_bytes()

    def info(self) -> Model | None:
        """MLmodel; None if the store does not hold it."""
        return (
            Model.load(self.repository.download_artifacts("MLmodel", str(self._scratch)))
            if self.holds("MLmodel")
            else None
        )

    def holds(self, path: str) -> bool:
        """Is there a file or a folder of this name?"""
        return path in self.sizes or any(file.startswith(f"{path}/") for file in self.sizes)

    def _list(self, folder: str | None) -> Iterator[tuple[str, int | None]]:
        for info in self.repository.list_artifacts(folder):
            if info.is_dir:
                yield from self._list(info.path)
            else:
                yield info.path, info.file_size


def _found(code: str, **values: str | int) -> Finding:
    return Finding(code, values)


def _versions(info: Model, files: ArtifactFiles) -> Iterator[Finding]:
    differing, wanted = 0, _requirements(info, files)
    for name, requirement in wanted.items():
        logged = str(requirement.specifier).removeprefix("==")
        try:
            installed = find_installed(name)[1]
        except importlib.metadata.PackageNotFoundError:
            differing += 1
            yield _found("package_missing", package=name, logged=logged)
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            differing += 1
            yield _found("version_differs", package=name, logged=logged, installed=installed)
    if wanted and not differing:
        yield _found("versions_match", count=len(wanted))
    python, here = str(info.flavors.get("python_function", {}).get("python_version", "")), platform.python_version()
    if python and python.split(".")[:2] != here.split(".")[:2]:
        yield _found("python_differs", logged=python, installed=here)


def _requirements(info: Model, files: ArtifactFiles) -> dict[str, Requirement]:
    """By package, the versions that requirements.txt and the flavours name."""
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
        except InvalidRequirement:  # a comment, an option, a path
            continue
        if requirement.specifier and (requirement.marker is None or requirement.marker.evaluate()):
            found[requirement.name] = requirement
    return found


def _code(info: Model, files: ArtifactFiles) -> Iterator[Finding]:
    try:
        installed = find_installed("onnxruntime-genai")[1]
    except importlib.metadata.PackageNotFoundError:
        return  # then nothing of it is there, which _versions says
    pickled = info.flavors.get("python_function", {}).get("python_model")
    for path in files.sizes:
        if not path.endswith(".py") and path != pickled:
            continue
        code = files.read(path) or b""
        try:
            removed = removed_in_pickle(code) if path == pickled else removed_in_source(code.decode())
        except (SyntaxError, ValueError) as error:
            yield _found("code_unreadable", file=path, detail=str(error).rstrip("."))
            continue
        if removed:
            yield _found("old_api", file=path, what=", ".join(removed), installed=installed)


def _wrapper(info: Model, files: ArtifactFiles) -> Iterator[Finding]:
    if classify_model(info) != "onnx":
        return
    path = _code_file(info) or WRAPPER.name
    stored = files.read(path)
    if stored is None:
        return  # which _files says
    digest = hashlib.sha256(stored + (files.read(f"code/{SLOTS.name}") or b"")).hexdigest()
    if digest != (info.metadata or {}).get("wrapper_sha256", digest):
        yield _found("wrapper_changed", file=path)
    elif digest != hashlib.sha256(WRAPPER.read_bytes() + SLOTS.read_bytes()).hexdigest():
        yield _found("wrapper_outdated")
    else:
        yield _found("wrapper_current")


def _files(info: Model, files: ArtifactFiles) -> Iterator[Finding]:
    named = {*_named(info), *_named_inside(files)}
    missing = [_found("file_missing", file=path) for path in sorted(named) if not files.holds(path)]
    # An empty module is as good as any.
    empty = [_found("file_empty", file=path) for path, n in files.sizes.items() if n == 0 and not path.endswith(".py")]
    yield from (*missing, *empty)
    if missing or empty:
        return
    measured = [n for path, n in files.sizes.items() if path not in _UNMEASURED and not path.startswith("code/")]
    if None not in measured and (short := (info.model_size_bytes or 0) - sum(size or 0 for size in measured)) > 0:
        yield _found("files_truncated", missing_mb=f"{short / 1e6:.3f}")
    else:
        yield _found("files_complete", count=len(files.sizes))


def _code_file(info: Model) -> str:
    """Where a model logged from code has its code; MLmodel names the place that it was logged from."""
    return PurePosixPath(str(info.flavors.get("python_function", {}).get("model_code_path") or "")).name


def _named(info: Model) -> Iterator[str]:
    """The files and folders that MLmodel names."""
    for flavor in info.flavors.values():
        yield from (path for key in _NAMING if isinstance(path := flavor.get(key), str))
        yield from (artifact["path"] for artifact in (flavor.get("artifacts") or {}).values())
        environment = flavor.get("env")
        yield from environment.values() if isinstance(environment, dict) else []
        if "model_binary" in flavor:
            yield from (f"components/{component}" for component in flavor.get("components") or [])
    if code := _code_file(info):
        yield code
        if classify_model(info) == "onnx" and info.flavors["python_function"].get("code"):
            yield f"code/{SLOTS.name}"
    for artifact in (
        (info.flavors.get("python_function", {}).get("artifacts") or {}).values() if classify_model(info) else ()
    ):
        yield from (f"{artifact['path']}/{file}" for file in ("genai_config.json", "tokenizer.json"))


def _named_inside(files: ArtifactFiles) -> Iterator[str]:
    """The weights that the indexes of checkpoints and the configurations of ONNX models name."""
    for path in files.sizes:
        name, folder = PurePosixPath(path).name, PurePosixPath(path).parent
        if name != "genai_config.json" and not name.endswith(".safetensors.index.json"):
            continue
        try:
            content = json.loads(files.read(path) or b"{}")
        except ValueError:
            content = {}
        weights = set((content.get("weight_map") or {}).values()) | set(_filenames(content.get("model")))
        yield from (str(folder / weight) for weight in weights)


def _filenames(config: Any) -> Iterator[str]:
    """The values of `filename`, at any depth."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "filename" and isinstance(value, str):
                yield value
            else:
                yield from _filenames(value)
