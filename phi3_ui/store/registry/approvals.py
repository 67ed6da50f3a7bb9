"""The fingerprints of the models whose code the administrator approved."""

import json
import logging
import os
import re
import tempfile
import threading
from collections.abc import Collection
from pathlib import Path

from filelock import FileLock

from phi3_ui.errors import UserError

FINGERPRINT = re.compile(r"[0-9a-f]{64}")

logger = logging.getLogger(__name__)


class Approvals:
    """Fingerprints from the settings, and those approved here, stored in a file. Thread-safe; other processes may add some."""

    def __init__(self, file: Path, configured: Collection[str] = ()) -> None:
        self._file = file
        self._configured = frozenset(configured)
        self._lock = threading.Lock()  # guards the attributes below
        self._state: tuple[int, ...] | None = None
        self._stored: frozenset[str] = frozenset()

    def contains(self, fingerprint: str) -> bool:
        """Return whether a model with this fingerprint was approved."""
        return bool(fingerprint) and fingerprint in self.list()

    def list(self) -> frozenset[str]:
        """Return all approved fingerprints."""
        with self._lock:
            try:
                found = self._file.stat()
                state: tuple[int, ...] = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            except FileNotFoundError:
                state = ()
            if state != self._state:
                self._state, self._stored = state, self._read() if state else frozenset()
            return self._configured | self._stored

    def add(self, fingerprint: str) -> None:
        """Approve all models with this fingerprint, from now on. Raises UserError("not_writable")."""
        if not FINGERPRINT.fullmatch(fingerprint):
            raise ValueError(f"not a fingerprint: {fingerprint!r}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._lock, FileLock(self._file.with_suffix(".lock")):
                self._write(self._read() | {fingerprint})
                self._state = None
        except OSError as error:
            raise UserError("not_writable", folder=str(self._file.parent)) from error

    def _read(self) -> frozenset[str]:
        """Return the file's fingerprints; none if the file cannot be read."""
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            return frozenset(one for one in content["fingerprints"] if FINGERPRINT.fullmatch(one))
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("Could not read the approved models in %s: %r", self._file, error)
            return frozenset()

    def _write(self, fingerprints: Collection[str]) -> None:
        """Replace the file; only this user may read it."""
        descriptor, part = tempfile.mkstemp(dir=self._file.parent, prefix=f".{self._file.name}-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
                json.dump({"fingerprints": sorted(fingerprints)}, opened, indent=2)
                opened.flush()
                os.fsync(opened.fileno())
            Path(part).replace(self._file)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
