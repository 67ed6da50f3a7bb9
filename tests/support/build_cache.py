"""Artifacts that the tests build once, cached in .test-data under a hash of the files that produce them."""

import hashlib
import shutil
from pathlib import Path

from filelock import FileLock

from phi3_ui.paths import ROOT

CACHE = ROOT / ".test-data"


def cached_folder(name: str, sources: list[str]) -> Path:
    """The cache folder for `name`, created if need be. It is a new one once a file that matches `sources` changes.

    `sources` are glob patterns relative to the repository's root: the files that decide what the artifact contains.
    Folders for earlier versions of these files are deleted.
    """
    files = [file for pattern in sources for file in sorted(ROOT.glob(pattern))]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    folder = CACHE / f"{name}-{digest}"
    for stale in CACHE.glob(f"{name}-*"):
        if stale != folder and stale.name.rpartition("-")[0] == name:
            shutil.rmtree(stale, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def build_lock(name: str) -> FileLock:
    """Hold it while building artifact `name`: several test processes may want it at once."""
    CACHE.mkdir(exist_ok=True)
    return FileLock(CACHE / f"{name}.lock")


def create_store(folder: Path, experiment: str | None = None) -> str:
    """Create an empty SQLite store in `folder` and return its URI.

    A copy of a cached database, because creating the tables takes MLflow seconds. `experiment` is created in it, with
    its artifacts in `folder`/artifacts.
    """
    from mlflow import MlflowClient

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_empty_database(), folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    if experiment:
        MlflowClient(uri).create_experiment(experiment, artifact_location=(folder / "artifacts").as_uri())
    return uri


def _empty_database() -> Path:
    from mlflow import MlflowClient

    with build_lock("store"):
        database = cached_folder("store", ["requirements.txt"]) / "mlflow.db"
        if not database.exists():
            part = database.with_suffix(".part")
            MlflowClient(f"sqlite:///{part}").search_experiments()
            part.replace(database)
    return database
