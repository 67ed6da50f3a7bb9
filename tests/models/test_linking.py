"""Links instead of copies: which files are hard-linked, and which are copied."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from models.linked_logging import LinkingArtifactRepository, linked_logging
from models.linking import SMALL, link_or_copy, symlink_or_copy
from tests.support.build_cache import create_store


def big(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(os.urandom(SMALL))
    return file


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system other than that of tmp_path."""
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.fail("This test needs a second file system at /dev/shm.")
    with tempfile.TemporaryDirectory(dir=shared_memory) as folder:
        yield Path(folder)


def test_a_big_file_is_hard_linked_and_a_small_one_copied(tmp_path: Path) -> None:
    weights, settings = big(tmp_path / "weights"), tmp_path / "settings.json"
    settings.write_text("{}", encoding="utf-8")

    link_or_copy(weights, tmp_path / "linked")
    link_or_copy(settings, tmp_path / "copied")

    assert (tmp_path / "linked").samefile(weights)
    assert not (tmp_path / "copied").samefile(settings)
    assert (tmp_path / "copied").read_text(encoding="utf-8") == "{}"


def test_a_symbolic_link_is_resolved(tmp_path: Path) -> None:
    weights = big(tmp_path / "blobs" / "1f3a")
    (tmp_path / "model.safetensors").symlink_to(weights)

    symlink_or_copy(tmp_path / "model.safetensors", tmp_path / "shown")
    link_or_copy(tmp_path / "shown", tmp_path / "stored")

    assert not (tmp_path / "stored").is_symlink()
    assert (tmp_path / "stored").samefile(weights)


def test_a_file_on_another_disk_is_copied(tmp_path: Path, other_disk: Path) -> None:
    weights = big(tmp_path / "weights")

    link_or_copy(weights, other_disk / "weights")

    assert not (other_disk / "weights").is_symlink()
    assert (other_disk / "weights").read_bytes() == weights.read_bytes()


def test_a_file_is_copied_if_links_are_not_permitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "symlink", refuse)
    weights = big(tmp_path / "weights")

    symlink_or_copy(weights, tmp_path / "shown")

    assert not (tmp_path / "shown").is_symlink()
    assert (tmp_path / "shown").read_bytes() == weights.read_bytes()


def test_a_missing_file_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        link_or_copy(tmp_path / "nowhere", tmp_path / "stored")


ECHO = """
import mlflow
import pandas

class Echo(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.folder = context.artifacts["weights"]

    def predict(self, context, model_input: pandas.DataFrame, params=None):
        return [self.folder]

mlflow.models.set_model(Echo())
"""


def log_echo(tmp_path: Path, source: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Log a model whose artifact is `source`, with links; return its folder in the store."""
    code = tmp_path / "echo.py"
    code.write_text(ECHO, encoding="utf-8")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    uri = create_store(tmp_path)
    mlflow.set_tracking_uri(uri)
    experiment = MlflowClient(uri).create_experiment("linked", artifact_location=artifacts.as_uri())
    sizes: list[int] = []
    remove_tree = shutil.rmtree

    def record_size(folder: object, *rest: object, **options: object) -> None:
        sizes.append(
            sum(
                file.lstat().st_size
                for file in Path(str(folder)).rglob("*")
                if file.is_file() and not file.is_symlink()
            )
        )
        remove_tree(folder, *rest, **options)  # type: ignore[arg-type]  # passed on unchanged

    monkeypatch.setattr(shutil, "rmtree", record_size)
    with mlflow.start_run(experiment_id=experiment), linked_logging():
        logged = mlflow.pyfunc.log_model(
            name="echo", python_model=str(code), artifacts={"weights": str(source)}, pip_requirements=[]
        )
    assert sizes, "mlflow removes its temporary folder"
    assert max(sizes) < SMALL, "the temporary folder never contains the weights"
    assert list(temporary.iterdir()) == []
    return Path(mlflow.pyfunc.load_model(logged.model_uri).predict(pd.DataFrame({"a": [1]}))[0])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source" / "weights"
    big(folder / "model.bin")
    big(folder / "deep" / "er" / "more.bin")
    big(folder / ".cache" / "huggingface" / "part")
    (folder / "settings.json").write_text("{}", encoding="utf-8")
    (folder / "hub.json").write_text("{}", encoding="utf-8")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.filterwarnings("ignore:.*input example:UserWarning")
def test_a_store_on_the_same_disk_gets_links_without_temporary_copies(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = log_echo(tmp_path, source, tmp_path / "artifacts", monkeypatch)

    expected = {
        name: content
        for name, content in contents(source).items()
        if name not in ("hub.json", ".cache/huggingface/part")
    }
    assert contents(stored) == expected
    for name in ("model.bin", "deep/er/more.bin"):
        assert (stored / name).samefile(source / name)
    assert not (stored / "settings.json").samefile(source / "settings.json")
    assert not any(file.is_symlink() for file in stored.rglob("*"))


@pytest.mark.filterwarnings("ignore:.*input example:UserWarning")
def test_a_store_on_another_disk_gets_one_copy(
    tmp_path: Path, source: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = log_echo(tmp_path, source, other_disk, monkeypatch)

    assert (stored / "deep" / "er" / "more.bin").read_bytes() == (source / "deep" / "er" / "more.bin").read_bytes()
    assert not any(file.is_symlink() for file in stored.rglob("*"))


def test_outside_the_block_mlflow_copies_as_before(tmp_path: Path) -> None:
    with linked_logging():
        assert isinstance(get_artifact_repository(tmp_path.as_uri()), LinkingArtifactRepository)
        assert isinstance(get_artifact_repository(str(tmp_path)), LinkingArtifactRepository)

    assert type(get_artifact_repository(tmp_path.as_uri())) is LocalArtifactRepository
    assert type(get_artifact_repository(str(tmp_path))) is LocalArtifactRepository
