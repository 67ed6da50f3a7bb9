"""Lists the files of a model's folder without leaving it, and computes their fingerprint."""

import hashlib
import os
import stat
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MAX_FILES = 5_000
COMPILED = "__pycache__"
"""The name of folders with compiled code, which Python writes next to its files and would run instead of them."""
_MAX_DEPTH = 20
_BLOCK = 1 << 20  # bytes
_SETTLING_TIME = 2_000_000_000
"""Nanoseconds within which a file may change twice without a change of its timestamps, on a coarse clock."""

FileKey = tuple[int, int, int, int, int]

Oddity = Literal["link", "special", "unreadable"]
"""A link out of the folder or to a folder; a pipe, socket or device; something that cannot be listed."""


@dataclass(frozen=True)
class ModelFile:
    """One regular file."""

    path: str
    """Relative to the model's folder, with slashes."""
    real: Path
    """The path of its content, with links resolved."""
    size: int
    key: FileKey
    """Device, inode, size, and times of modification and change (ns): equal keys mean equal content."""

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class FolderListing:
    """The contents of a model's folder."""

    folder: Path
    files: tuple[ModelFile, ...]
    """Sorted by path."""
    oddities: tuple[tuple[str, Oddity], ...]
    """The paths of anything but regular files in this folder."""

    @property
    def state(self) -> tuple[object, ...]:
        """Equal for two listings of the same unchanged files."""
        return (tuple((file.path, file.key) for file in self.files), self.oddities)

    def find(self, path: str) -> ModelFile | None:
        """Return the file at a relative path."""
        return next((file for file in self.files if file.path == path), None)


def list_folder(folder: Path, own_links: Collection[str] = (), *, is_copy: bool = False) -> FolderListing:
    """List a folder. Links to files are followed; those out of the folder are oddities unless they are among `own_links`.

    Compiled code in `__pycache__` is omitted, since models are loaded from a copy without it. Nothing in such a copy (`is_copy`)
    is omitted. Raises OSError if the folder itself cannot be read.
    """
    root = folder.resolve(strict=True)
    files: list[ModelFile] = []
    oddities: list[tuple[str, Oddity]] = []
    os.scandir(root).close()  # raises if the folder itself cannot be read
    for path, entry in _walk(root, oddities, set() if is_copy else {COMPILED}):
        real = Path(entry.path)
        try:
            if entry.is_symlink():
                real = real.resolve(strict=True)
                if not real.is_relative_to(root) and path not in own_links:
                    oddities.append((path, "link"))
            found = real.stat()
        except (OSError, RuntimeError):
            oddities.append((path, "unreadable"))
            continue
        if not stat.S_ISREG(found.st_mode):
            oddities.append((path, "link" if entry.is_symlink() else "special"))
            continue
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        files.append(ModelFile(path, real, found.st_size, key))
    return FolderListing(root, tuple(sorted(files, key=lambda file: file.path)), tuple(sorted(oddities)))


def _walk(
    root: Path, oddities: list[tuple[str, Oddity]], skipped: Collection[str]
) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Yield everything but folders, by relative path, up to a limit. Folders named in `skipped` are omitted."""
    count = 0
    pending = [("", 0)]
    while pending:
        inside, depth = pending.pop()
        try:
            with os.scandir(root / inside) as found:
                entries = list(found)
        except OSError:
            oddities.append((inside, "unreadable"))
            continue
        for entry in entries:
            path = f"{inside}/{entry.name}" if inside else entry.name
            count += 1
            if count > MAX_FILES or depth > _MAX_DEPTH:
                oddities.append((path, "unreadable"))
                return
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in skipped:
                    pending.append((path, depth + 1))
            else:
                yield path, entry


class FileHashes:
    """Computes the SHA-256 of files; each is read again only when it has changed. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[FileKey, str] = {}

    def hash_file(self, file: ModelFile) -> str:
        """Return the SHA-256 of a file's content, in hexadecimal. Raises OSError."""
        with self._lock:
            known = self._known.get(file.key)
        if known is None:
            is_settled = time.time_ns() - max(file.key[3:]) > _SETTLING_TIME
            known = _hash_content(file.real)
            if is_settled:
                with self._lock:
                    self._known[file.key] = known
        return known

    def fingerprint(self, listing: FolderListing) -> str:
        """Return the SHA-256 over the paths and contents of all files. Raises OSError."""
        total = hashlib.sha256()
        for file in listing.files:
            path = file.path.encode("utf-8", "surrogateescape")
            total.update(b"%d:%s %s\n" % (len(path), path, self.hash_file(file).encode()))
        return total.hexdigest()


def _hash_content(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb", buffering=0) as opened:
        while block := opened.read(_BLOCK):
            total.update(block)
    return total.hexdigest()
