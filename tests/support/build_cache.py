"""What tests make once: kept under a name that changes with what makes it, so the next run is fast and offline."""

import hashlib
import shutil
from pathlib import Path

from filelock import FileLock

from phi3_ui.paths import ROOT

DATA = ROOT / ".test-data"


def kept(name: str, makers: list[str]) -> Path:
    """A folder that is kept for as long as the files that make its content stay as they are."""
    files = [file for maker in makers for file in sorted(ROOT.glob(maker))]
    made = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    folder = DATA / f"{name}-{made}"
    for stale in DATA.glob(f"{name}-*"):
        if stale != folder:
            shutil.rmtree(stale, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def alone() -> FileLock:
    """Held while something that is kept is made: several test processes may want it at once."""
    DATA.mkdir(exist_ok=True)
    return FileLock(DATA / "lock")


def empty_store(folder: Path) -> str:
    """The URI of a SQLite store in `folder`, which MLflow made: its tables take seconds, so they are made once and copied."""
    made = kept("store", ["requirements.txt"]) / "mlflow.db"
    with alone():
        if not made.exists():
            from mlflow import MlflowClient

            part = made.with_suffix(".part")
            MlflowClient(f"sqlite:///{part}").search_experiments()
            part.replace(made)
    shutil.copy(made, folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"
