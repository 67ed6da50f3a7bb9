"""Keeps the app's own store in a bucket mounted as a folder, for machines whose disk is lost at each restart.

SQLite locks up on such a mount and corrupts its files, so the live database stays on the local disk, and a consistent copy is
written to the bucket atomically after changes. Artifacts, which are written once, are stored in the bucket itself.
"""

import logging
import os
import shutil
import sqlite3
import tempfile
import threading
from contextlib import closing
from pathlib import Path

from phi3_ui.errors import UserError

_INTERVAL = 30.0  # seconds between two checks for changes

logger = logging.getLogger(__name__)


class BucketCopy:
    """The copy of one database. Only one app at a time may use it. Thread-safe."""

    def __init__(self, database: Path, bucket: Path) -> None:
        """`bucket` is the mounted folder, created if necessary."""
        self._database = database
        self._copy = bucket / database.name
        self._saving = threading.Lock()  # guards the next attribute
        self._saved: tuple[int, ...] | None = None  # the state of the database when it was last copied
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bucket", daemon=True)

    def restore(self) -> None:
        """Restore the database from the copy, unless the database exists. Raises UserError: bucket_damaged, bucket_unusable."""
        if self._database.exists():
            return
        try:
            self._copy.parent.mkdir(parents=True, exist_ok=True)
            if not self._copy.exists():
                return
            self._database.parent.mkdir(parents=True, exist_ok=True)
            part = self._database.with_suffix(".part")
            shutil.copyfile(self._copy, part)
            _check(part)
            part.replace(self._database)
        except sqlite3.DatabaseError as error:
            raise UserError("bucket_damaged", file=str(self._copy), detail=str(error)) from error
        except OSError as error:
            raise UserError("bucket_unusable", folder=str(self._copy.parent), detail=error.strerror or "") from error

    def start(self) -> None:
        """Start to copy changes in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Copy the last changes, and stop."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self.save()

    def save(self) -> None:
        """Copy the database if it has changed. A failure is logged, and retried after the next interval."""
        with self._saving:
            try:
                if (state := self._read_state()) == self._saved or not state:
                    return
                with tempfile.TemporaryDirectory() as folder:
                    local = Path(folder, "copy.db")
                    with closing(sqlite3.connect(self._database)) as source, closing(sqlite3.connect(local)) as target:
                        source.backup(target)
                    part = self._copy.with_suffix(".part")
                    shutil.copyfile(local, part)
                os.replace(part, self._copy)
                self._saved = state
            except (OSError, sqlite3.Error):
                logger.exception("Cannot copy the store to %s: recent changes are lost if this disk is", self._copy)

    def _read_state(self) -> tuple[int, ...]:
        """Return the sizes and modification times of the database's files."""
        files = (self._database, self._database.with_name(f"{self._database.name}-wal"))
        found = [file.stat() for file in files if file.exists()]
        return tuple(value for stat in found for value in (stat.st_size, stat.st_mtime_ns))

    def _run(self) -> None:
        while not self._stopped.wait(_INTERVAL):
            self.save()


def _check(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)
