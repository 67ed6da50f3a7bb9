"""Logging without a second copy: while MLflow gathers a model's files they are links, and a store on their disk gets hard links.

Left to itself MLflow copies every file twice: into a temporary folder, then into the store. A store on another disk
gets one copy, a remote one its upload. A hard link is the same file under two names: whoever writes into the source
in place writes into the store, so small files, which people edit, are copied all the same.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any
from unittest.mock import patch

SMALL = 1 << 20
"""Files below this many bytes are copied, never hard-linked."""

# What a download leaves in a folder besides the model.
_NOT_THE_MODELS = {"hub.json", ".cache"}


def symlink_or_copy(file: Path, target: Path) -> None:
    """Let `target` show `file`: a symbolic link, or what link_or_copy makes where the system has none."""
    try:
        target.symlink_to(file.resolve(strict=True))
    except OSError:
        link_or_copy(file, target)


def link_or_copy(file: Path, target: Path) -> None:
    """Give `file`, with symbolic links followed, the name `target` too; a copy of it where it is small or cannot have one.

    It cannot on another disk, on a file system without links, or where the system forbids links to others' files.
    """
    real = file.resolve(strict=True)
    if real.stat().st_size >= SMALL:
        with suppress(OSError):
            os.link(real, target)
            return
    shutil.copy2(real, target)


@contextmanager
def linked_logging() -> Iterator[None]:
    """Within it, `mlflow.*.log_model` links a model's local files instead of copying them; for all threads."""
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    with (
        patch.object(LocalArtifactRepository, "_download_file", _gather),
        patch.object(LocalArtifactRepository, "log_artifacts", _store),
    ):
        yield


def _gather(repository: Any, remote_file_path: str, local_path: str) -> None:
    """One file of the source, shown in MLflow's temporary folder."""
    _, *inside = PurePosixPath(remote_file_path).parts
    if not _NOT_THE_MODELS.intersection(inside):
        symlink_or_copy(Path(repository.get_local_path(remote_file_path)), Path(local_path))


def _store(repository: Any, local_dir: str, artifact_path: str | None = None) -> None:
    """MLflow's temporary folder, put into a store that is a folder."""
    for folder, _, files in os.walk(local_dir):
        target = Path(repository.artifact_dir, artifact_path or "", os.path.relpath(folder, local_dir))
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            link_or_copy(Path(folder, file), target / file)
