"""Log a model without copying its files twice.

By default, MLflow copies every file twice: into a temporary folder, then into the store. Here the temporary folder contains
symbolic links, and a store on the same disk gets hard links. A store on another disk gets one copy, a remote store one upload.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from models.linking import link_or_copy, symlink_or_copy

# Files that a download leaves in a folder besides the model.
_LEFTOVERS = {"hub.json", ".cache"}


class LinkingArtifactRepository(LocalArtifactRepository):
    """MLflow's repository of local files, with links instead of copies."""

    added: Mapping[Path, bytes] = {}
    """Additional files to log, by the paths that they would have among the others."""

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """Fill the temporary folder, including the added files."""
        found = super().download_artifacts(artifact_path, dst_path)  # type: ignore[no-untyped-call]  # MLflow's
        source = Path(self.get_local_path(artifact_path))
        for file, content in self.added.items():
            if dst_path and file.parent == source:
                target = Path(found, file.name)
                target.unlink(missing_ok=True)  # it may be a link to an existing file
                target.write_bytes(content)
        return str(found)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        """Create one file of the temporary folder."""
        _, *inside = PurePosixPath(remote_file_path).parts
        if not _LEFTOVERS.intersection(inside):
            symlink_or_copy(Path(self.get_local_path(remote_file_path)), Path(local_path))

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Move the content of the temporary folder to the store, by links if possible."""
        for folder, _, files in os.walk(local_dir):
            target = Path(self.artifact_dir, artifact_path or "", os.path.relpath(folder, local_dir))
            target.mkdir(parents=True, exist_ok=True)
            for file in files:
                link_or_copy(Path(folder, file), target / file)


@contextmanager
def linked_logging(added: Mapping[Path, bytes] | None = None) -> Iterator[None]:
    """Make `mlflow.*.log_model` link local files for the duration of the block, in all threads.

    The files `added` are logged together with the folders that they would be in; nothing is written to those folders.

    MLflow looks up the repository of a URI in its plugin registry by the URI's scheme; there, LinkingArtifactRepository replaces
    LocalArtifactRepository.
    """
    repositories: dict[str, Any] = get_registered_artifact_repositories()  # of classes, although annotated as instances
    usual = {scheme: repository for scheme, repository in repositories.items() if repository is LocalArtifactRepository}
    linking = type("LinkingArtifactRepository", (LinkingArtifactRepository,), {"added": added or {}})
    repositories.update(dict.fromkeys(usual, linking))
    try:
        yield
    finally:
        repositories.update(usual)
