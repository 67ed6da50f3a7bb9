"""The files of a model in its artifact store: listed within limits, and inspected before their weights are downloaded."""

import os
import shutil
from pathlib import Path, PurePosixPath

from mlflow.store.artifact.artifact_repo import ArtifactRepository

from models.stage import require_space
from phi3_ui.errors import UserError
from phi3_ui.store.registry.fingerprint import COMPILED, MAX_FILES
from phi3_ui.store.registry.suspects import DATA_SUFFIXES, Suspect

_MAX_DEPTH = 20
_SMALL = 16 << 20
"""The largest size in bytes of a file that is downloaded for inspection; larger ones are weights, or tokenizers."""
_MAX_PREVIEW = 500 << 20
"""The maximum total size of these files in bytes."""
_SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


class RemoteFiles:
    """The files of one model in a repository. Methods also raise the errors of the repository."""

    def __init__(self, repository: ArtifactRepository, name: str) -> None:
        """List the files of the model `name`.

        Raises UserError("model_unreadable") for too many files, and for a path outside of the model.
        """
        self._repository = repository
        self._name = name
        self.sizes: dict[str, int | None] = {}
        """Bytes by path; None if the store does not report the size."""
        self._list()

    def _list(self) -> None:
        pending: list[tuple[str | None, int]] = [(None, 0)]
        folders = 0
        while pending:
            folder, depth = pending.pop()
            for info in self._repository.list_artifacts(folder):
                path = PurePosixPath(info.path)
                if path.is_absolute() or ".." in path.parts or "\\" in info.path or "\0" in info.path:
                    raise self._unreadable("a file is outside of the model")
                folders += info.is_dir
                if len(self.sizes) + folders >= MAX_FILES or depth > _MAX_DEPTH:
                    raise self._unreadable("it has too many files")
                if path.name == COMPILED:
                    continue  # not used: see `download`
                if info.is_dir:
                    pending.append((info.path, depth + 1))
                else:
                    self.sizes[info.path] = info.file_size

    def preview(self, folder: Path) -> frozenset[str]:
        """Download the small files to `folder`, with placeholders of equal size for the others, and return the paths of these.

        Raises UserError("model_unreadable") if the small files are too large in total.
        """
        small = {path for path, size in self.sizes.items() if (size or 0) <= _SMALL}
        if sum(self.sizes[path] or 0 for path in small) > _MAX_PREVIEW:
            raise self._unreadable("it has too many small files")
        placeholders = self.sizes.keys() - small
        for path in placeholders:
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_SAFETENSORS)
            os.truncate(file, self.sizes[path] or 0)
        for path in sorted(small):
            self._repository.download_artifacts(path, str(folder))
        return frozenset(placeholders)

    def download(self, folder: Path) -> None:
        """Download all files to `folder`, except compiled code, which Python would run instead of the source.

        Raises StageError("disk_full") if there is not enough space.
        """
        require_space(folder, sum(size or 0 for size in self.sizes.values()))
        self._repository.download_artifacts("", str(folder))
        for compiled in [*folder.rglob(COMPILED)]:
            if compiled.is_dir():
                shutil.rmtree(compiled)

    def _unreadable(self, detail: str) -> UserError:
        return UserError("model_unreadable", model=self._name, detail=detail)


def is_caused_by(suspect: Suspect, placeholders: frozenset[str]) -> bool:
    """Return whether a suspect may be due to placeholders, so that the real content is needed to decide."""
    path = suspect.path.partition(": ")[0]
    if any(one.endswith(".onnx") for one in placeholders) and path.endswith(".bin"):
        return True  # perhaps weights that the ONNX file refers to
    return path in placeholders and path.endswith(DATA_SUFFIXES)
