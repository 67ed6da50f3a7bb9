"""Select the files of a hub repository that a model needs, and their names in its local folder."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal

from models.presets import HubFolder
from models.stage import StageError
from models.weights import file_sha256

Kind = Literal["checkpoint", "onnx"]

RECORD = "hub.json"

_CHECKPOINT = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
_CARD = ("README.md", "LICENSE*")
_MARKS = {"checkpoint": "config.json + *.safetensors", "onnx": "genai_config.json"}


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository at one commit."""

    path: str
    size: int
    """In bytes."""
    sha256: str = ""
    """Of a file in large file storage (LFS), in hexadecimal."""
    git_sha1: str = ""
    """Git's blob id, if the file is stored in git itself."""

    @property
    def version(self) -> str:
        """Identifies the content."""
        return self.sha256 or self.git_sha1 or str(self.size)

    def is_at(self, path: Path) -> bool:
        """Whether `path` is this file, complete and unmodified."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        if self.sha256:
            return file_sha256(path) == self.sha256
        return not self.git_sha1 or _compute_git_blob_id(path) == self.git_sha1


def read_hub_record(folder: Path) -> dict[str, str]:
    """Return the download record of `folder`: repo, revision, folder, commit; empty if it was not downloaded from the hub."""
    try:
        record: dict[str, str] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return record


def _compute_git_blob_id(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def select_files(source: HubFolder, kind: Kind, files: Sequence[RemoteFile]) -> dict[str, RemoteFile]:
    """Return the files that the model of `source` needs, by their names in its local folder; never a Python file.

    Raises StageError: hub_no_model; hub_wrong_folder, which names the folders that contain such a model.
    """
    plain = [file for file in files if _is_plain(file.path)]
    models = _find_model_folders(kind, plain)
    if source.folder not in models:
        raise _build_folder_error(source, kind, models)
    root = {file.path: file for file in plain if _matches(file.path, _CARD)}
    inside = {name: file for file in plain if (name := _get_relative_path(source.folder, file.path))}
    if kind == "onnx":
        # A nested folder that contains a model is another variant.
        others = [other for name in models if (other := _get_relative_path(source.folder, name))]
        chosen = {
            name: file for name, file in inside.items() if not any(_get_relative_path(other, name) for other in others)
        }
    else:
        chosen = {name: file for name, file in inside.items() if _matches(name, (*_CHECKPOINT, *_CARD))}
        _drop_duplicate_weights(chosen)
    return {**root, **chosen}


def _is_plain(path: str) -> bool:
    """Whether a path stays within its folder and is not a hidden file, Python file or download record."""
    parts = path.split("/")
    odd = "\\" in path or ":" in path or any(part == "" or part.startswith(".") for part in parts)
    return not odd and not path.endswith(".py") and parts[-1] != RECORD


def _get_relative_path(folder: str, path: str) -> str:
    """Return `path` relative to `folder`; empty if it is outside."""
    if not folder:
        return path
    return path.removeprefix(f"{folder}/") if path.startswith(f"{folder}/") else ""


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in patterns)


def _find_model_folders(kind: Kind, files: Sequence[RemoteFile]) -> list[str]:
    """Return the folders that contain a model of this kind; the root is the empty string."""

    def parent_folders(pattern: str) -> set[str]:
        paths = [PurePosixPath(file.path) for file in files]
        return {path.parent.as_posix() for path in paths if fnmatchcase(path.name, pattern)}

    found = parent_folders("genai_config.json")
    if kind == "checkpoint":
        found = parent_folders("config.json") & parent_folders("*.safetensors")
    return sorted("" if folder == "." else folder for folder in found)


def _drop_duplicate_weights(chosen: dict[str, RemoteFile]) -> None:
    """Drop weights under other names if there is `model*.safetensors`, which transformers reads: some repositories contain both."""
    weights = [name for name in chosen if ".safetensors" in name]
    if any(name.startswith("model") for name in weights):
        for name in weights:
            if not name.startswith("model"):
                del chosen[name]


def _build_folder_error(source: HubFolder, kind: Kind, models: Sequence[str]) -> StageError:
    if not models:
        return StageError("hub_no_model", repo=source.repo, mark=_MARKS[kind])
    folders = ", ".join(folder or "/" for folder in models)
    folder = source.folder or "/"
    return StageError("hub_wrong_folder", repo=source.repo, folder=folder, mark=_MARKS[kind], folders=folders)
