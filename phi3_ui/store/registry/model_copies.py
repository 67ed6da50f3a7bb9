"""Private copies of models' files, which models are loaded from."""

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from phi3_ui.store.registry.fingerprint import FolderListing
from phi3_ui.store.registry.suspects import DATA_SUFFIXES


class ModelCopies:
    """A folder of copies. The next app removes those of an app that was killed. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._own: Path | None = None
        self._held: FileLock | None = None

    @contextmanager
    def create(self) -> Iterator[Path]:
        """Create an empty folder, which is removed at the end of the block. Raises OSError."""
        own = self._open()
        with tempfile.TemporaryDirectory(dir=own, ignore_cleanup_errors=True) as copy:
            yield Path(copy)

    def _open(self) -> Path:
        """Return this app's subfolder, which is locked for as long as the app runs."""
        with self._lock:
            if self._own is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._folder.chmod(0o700)
                with FileLock(self._folder / "folder.lock"):
                    self._remove_abandoned()
                    own = Path(tempfile.mkdtemp(prefix="app-", dir=self._folder))
                    self._held = FileLock(own.with_suffix(".lock"))
                    self._held.acquire(blocking=False)
                self._own = own
            return self._own

    def _remove_abandoned(self) -> None:
        for folder in self._folder.glob("app-*"):
            if not folder.is_dir():
                continue
            lock = FileLock(folder.with_suffix(".lock"))
            with contextlib.suppress(Timeout), lock.acquire(blocking=False):
                shutil.rmtree(folder, ignore_errors=True)
                folder.with_suffix(".lock").unlink(missing_ok=True)


def copy_files(listing: FolderListing, target: Path) -> frozenset[str]:
    """Copy listed files. Raises OSError.

    Weights are linked, since no library executes them: by hard links or, on another disk, by symbolic links, whose paths are
    returned.
    """
    links = set[str]()
    for file in listing.files:
        copy = target / file.path
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not file.name.endswith(DATA_SUFFIXES):
            shutil.copyfile(file.real, copy)
            continue
        try:
            os.link(file.real, copy)
        except OSError:
            copy.symlink_to(file.real)
            links.add(file.path)
    return frozenset(links)
