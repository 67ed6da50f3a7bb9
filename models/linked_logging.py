"""Log a model without copying its files twice.

Left to itself MLflow copies every file twice: into a temporary folder, then into the store. Here the temporary folder holds
symbolic links, and a store on the same disk gets hard links. A store on another disk gets one copy, a remote one its upload.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from models.linking import link_or_copy, symlink_or_copy

# What a download leaves in a folder besides the model.
_LEFTOVERS = {"hub.json", ".cache"}


class LinkingArtifactRepository(LocalArtifactRepository):
    """MLflow's repository of local files, with links in place of copies."""

    added: Mapping[Path, bytes] = {}
    """Files to log besides, by the paths that they would have among the others."""

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """Fill the temporary folder."""
        found = super().download_artifacts(artifact_path, dst_path)  # type: ignore[no-untyped-call]  # MLflow's
        source = Path(self.get_local_path(artifact_path))
        for file, content in self.added.items():
            if dst_path and file.parent == source:
                target = Path(found, file.name)
                target.unlink(missing_ok=True)  # a link to the file that is there
                target.write_bytes(content)
        return str(found)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        """Create one file of the temporary folder."""
        _, *inside = PurePosixPath(remote_file_path).parts
        if not _LEFTOVERS.intersection(inside):
            symlink_or_copy(Path(self.get_local_path(remote_file_path)), Path(local_path))

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Put the temporary folder into the store."""
        for folder, _, files in os.walk(local_dir):
            target = Path(self.artifact_dir, artifact_path or "", os.path.relpath(folder, local_dir))
            target.mkdir(parents=True, exist_ok=True)
            for file in files:
                link_or_copy(Path(folder, file), target / file)


@contextmanager
def linked_logging(added: Mapping[Path, bytes] | None = None) -> Iterator[None]:
    """Within the block, `mlflow.*.log_model` links local files, in all threads.

    It logs the files `added` too, where it logs the folders that they would be in; nothing is written there.

    MLflow looks the repository of a URI up in its registry of plugins by the URI's scheme; there this one takes the place of
    LocalArtifactRepository.
    """
    repositories: dict[str, Any] = get_registered_artifact_repositories()  # of classes; annotated as one of instances
    usual = {scheme: repository for scheme, repository in repositories.items() if repository is LocalArtifactRepository}
    linking = type("LinkingArtifactRepository", (LinkingArtifactRepository,), {"added": added or {}})
    repositories.update(dict.fromkeys(usual, linking))
    try:
        yield
    finally:
        repositories.update(usual)
