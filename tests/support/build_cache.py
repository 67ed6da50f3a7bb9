"""Cache of test artifacts in .test-data, keyed by a hash of the files that produce them."""

import hashlib
import shutil
from pathlib import Path

from filelock import FileLock

from phi3_ui.paths import ROOT

CACHE = ROOT / ".test-data"


def cached_folder(name: str, sources: list[str]) -> Path:
    """Return the cache folder for `name`, created if necessary. Its cache key changes with the files of `sources`.

    `sources` are glob patterns, relative to the repository root, for the files that determine the artifact. Folders
    with stale keys are deleted.
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
    """Return the lock to hold while building artifact `name`: several test processes may need it at once."""
    CACHE.mkdir(exist_ok=True)
    return FileLock(CACHE / f"{name}.lock")


def create_store(folder: Path, experiment: str | None = None) -> str:
    """Create an empty SQLite store in `folder` and return its URI.

    It is copied from a cached database, because MLflow takes seconds to create the tables. `experiment` is created in
    it, with its artifacts in `folder`/artifacts.
    """
    from mlflow import MlflowClient

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_build_empty_database(), folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    if experiment:
        MlflowClient(uri).create_experiment(experiment, artifact_location=(folder / "artifacts").as_uri())
    return uri


def _build_empty_database() -> Path:
    from mlflow import MlflowClient

    with build_lock("store"):
        database = cached_folder("store", ["requirements.txt"]) / "mlflow.db"
        if not database.exists():
            part = database.with_suffix(".part")
            MlflowClient(f"sqlite:///{part}").search_experiments()
            part.replace(database)
    return database
