"""A store of one's own for each test, without making its tables anew each time."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a store that holds nothing."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


def copy_of(empty_store: Path, folder: Path) -> str:
    """The URI of a store in `folder`, with an experiment called models whose files go to `folder`/artifacts."""
    shutil.copyfile(empty_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    MlflowClient(uri).create_experiment("models", artifact_location=(folder / "artifacts").as_uri())
    return uri
