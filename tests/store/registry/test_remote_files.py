"""Models in a remote store: code is refused before the weights are downloaded, within limits."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import FileInfo
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from phi3_ui.errors import UserError
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.store.registry import admission as admission_module
from phi3_ui.store.registry.admission import Admission
from phi3_ui.store.registry.approvals import Approvals
from phi3_ui.store.registry.remote_files import RemoteFiles
from phi3_ui.store.registry.trust import inspect_model
from tests.store.registry.test_hostile_models import ATTACKS
from tests.support.model_folders import SAFETENSORS, write_pipeline, write_wrapper

SPEC = ModelSpec("m-1", "theirs", "models:/m-1", "prompt", "sqlite:///nowhere.db")
BIG = 17 << 20  # bytes; sparse
_WITH_LINKS = {"behind_a_link", "link_to_a_folder", "code_outside"}  # no remote store has it


class Repository(LocalArtifactRepository):
    """A folder as a remote store that records downloads."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.as_uri())
        self.downloads: list[str] = []

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None, **options: Any) -> str:
        self.downloads.append(artifact_path)
        return str(super().download_artifacts(artifact_path, dst_path, **options))  # type: ignore[no-untyped-call]  # MLflow has no types here


@pytest.fixture
def admission(tmp_path: Path) -> Admission:
    return Admission(tmp_path / "loaded", Approvals(tmp_path / "trusted.json"))


def _serve(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Repository:
    repository = Repository(folder)
    monkeypatch.setattr(admission_module, "_open_remote", lambda *_: RemoteFiles(repository, "theirs"))
    return repository


def _add_weights(folder: Path) -> str:
    """Replace the model's weights by ones too large for the preview, and return their path."""
    weights = next((file for file in sorted(folder.rglob("*")) if file.suffix in (".safetensors", ".data")), None)
    weights = weights or folder / "model.safetensors"
    weights.write_bytes(SAFETENSORS)
    os.truncate(weights, BIG)
    return weights.relative_to(folder).as_posix()


@pytest.mark.parametrize("kind", sorted(ATTACKS.keys() - _WITH_LINKS))
def test_a_model_with_code_is_refused_without_its_weights(
    admission: Admission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = tmp_path / "model"
    ATTACKS[kind](folder, "pass")
    weights = _add_weights(folder)
    repository = _serve(monkeypatch, folder)

    with pytest.raises(UserError) as raised, admission.admit(SPEC):
        pass

    assert raised.value.code == "model_not_trusted"
    assert repository.downloads
    assert {"", weights}.isdisjoint(repository.downloads)
    assert not list((tmp_path / "loaded").glob("app-*/tmp*")), "no file is left"


@pytest.mark.parametrize("write", [write_pipeline, write_wrapper])
def test_other_models_are_downloaded_completely(
    admission: Admission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], Path]
) -> None:
    weights = _add_weights(write(tmp_path / "model"))
    repository = _serve(monkeypatch, tmp_path / "model")

    with admission.admit(SPEC) as admitted:
        assert admitted.level in ("data_only", "ours")
        assert Path(str(admitted.folder), weights).stat().st_size == BIG
    assert repository.downloads.count("") == 1


@pytest.mark.parametrize("has_approvals", [False, True])
@pytest.mark.parametrize("folder_name", ["", "code"])
def test_compiled_code_of_a_store_is_not_used(
    admission: Admission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder_name: str, has_approvals: bool
) -> None:
    folder = write_wrapper(tmp_path / "model")
    compiled = folder / folder_name / "__pycache__"
    compiled.mkdir(parents=True)
    (compiled / "phi3_onnx.cpython-311.pyc").write_bytes(b"runs in place of the source, if it is never compared")
    _serve(monkeypatch, folder)
    if has_approvals:
        admission.approvals.add("0" * 64)

    with admission.admit(SPEC) as admitted:
        assert admitted.level == "ours"
        assert not list(Path(str(admitted.folder)).rglob("__pycache__"))


@pytest.mark.parametrize("has_approvals", [False, True])
def test_code_cannot_hide_in_a_pycache_folder_of_weights(
    admission: Admission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_approvals: bool
) -> None:
    folder = write_pipeline(tmp_path / "model")
    mlmodel = folder / "MLmodel"
    weights = next(file for file in folder.rglob("*.safetensors")).parent
    text = mlmodel.read_text(encoding="utf-8")
    assert f"model_binary: {weights.name}" in text
    mlmodel.write_text(text.replace(f"model_binary: {weights.name}", "model_binary: __pycache__"), encoding="utf-8")
    weights.rename(folder / "__pycache__")
    (folder / "__pycache__" / "modeling_evil.py").write_text("raise SystemExit", encoding="utf-8")
    _serve(monkeypatch, folder)
    if has_approvals:
        admission.approvals.add("0" * 64)

    with pytest.raises(UserError) as raised, admission.admit(SPEC):
        pass
    assert raised.value.code == "model_not_trusted"
    assert inspect_model(folder).level == "code"


def test_with_any_approval_a_model_with_code_is_downloaded_before_it_is_refused(
    admission: Admission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ATTACKS["models_from_code"](tmp_path / "model", "pass")
    _add_weights(tmp_path / "model")
    repository = _serve(monkeypatch, tmp_path / "model")
    admission.approvals.add("0" * 64)

    with pytest.raises(UserError, match="theirs is not loaded"), admission.admit(SPEC):
        pass
    assert repository.downloads == [""]


class _Listing:
    """A store that lists these files, but sends none."""

    def __init__(self, list_folder: Callable[[str | None], list[FileInfo]]) -> None:
        self.list_artifacts = list_folder

    def download_artifacts(self, *_: object) -> str:
        raise AssertionError("nothing may be downloaded")


def _endless(folder: str | None) -> list[FileInfo]:
    return [FileInfo(f"{folder}/x" if folder else "x", True, None)]


def _many(folder: str | None) -> list[FileInfo]:
    return [FileInfo(f"{number}.json", False, 1) for number in range(5_001)]


def _many_small(folder: str | None) -> list[FileInfo]:
    return [FileInfo(f"{number}.json", False, 16 << 20) for number in range(100)]


def _list_path(path: str) -> Callable[[str | None], list[FileInfo]]:
    return lambda folder: [FileInfo(path, False, 1)]


@pytest.mark.parametrize(
    ("listing", "detail"),
    [
        (_endless, "too many files"),
        (_many, "too many files"),
        (_many_small, "it has too many small files"),
        *((_list_path(path), "outside of the model") for path in ("../x", "a/../../x", "/etc/passwd", "..\\x", "a\0b")),
    ],
)
def test_an_unbounded_or_escaping_listing_is_refused(
    admission: Admission, monkeypatch: pytest.MonkeyPatch, listing: Callable[[str | None], list[FileInfo]], detail: str
) -> None:
    monkeypatch.setattr(admission_module, "_open_remote", lambda *_: RemoteFiles(_Listing(listing), "theirs"))  # type: ignore[arg-type]  # only the methods that are used

    with pytest.raises(UserError, match=detail) as raised, admission.admit(SPEC):
        pass
    assert raised.value.code == "model_unreadable"


def test_a_model_larger_than_the_disk_is_not_downloaded(
    admission: Admission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = _add_weights(write_pipeline(tmp_path / "model"))
    repository = _serve(monkeypatch, tmp_path / "model")
    listed = Repository.list_artifacts
    monkeypatch.setattr(
        Repository,
        "list_artifacts",
        lambda self, path=None: [
            FileInfo(file.path, file.is_dir, 1 << 50 if file.path == weights else file.file_size)
            for file in listed(self, path)  # type: ignore[no-untyped-call]  # MLflow has no types here
        ],
    )
    monkeypatch.setattr(os, "truncate", lambda *_: None)  # no file system has files of this size

    with pytest.raises(UserError, match=r"The disk of .* is full"), admission.admit(SPEC):
        pass
    assert "" not in repository.downloads
