"""Operations that the store has not accepted yet, on disk, so that they survive a crash of the process.

Each process has its own folder, guarded by a file lock that the kernel releases when the process ends; the next process to
start recovers the remaining operations.
"""

import contextlib
import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from phi3_ui.store.conversations.operations import (
    Operation,
    TurnRecord,
    interrupted_record,
    parse_operation,
    serialize_operation,
)

_DRAFT_INTERVAL = 1.0  # seconds between writes of an answer that is being generated
_DRAFT_SUFFIX, _OPERATION_SUFFIX = ".part", ".json"

logger = logging.getLogger(__name__)


class Journal:
    """Pending operations in the order in which they were added. Thread-safe.

    Operations that cannot be written to disk are kept in memory, and `error` says why.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        """Open the journal of this process in `folder`. `limit` is the maximum number of pending bytes."""
        self._limit = limit
        self._lock = threading.RLock()
        self._error: str | None = None
        self._last_number = 0
        self._pending: dict[int, Operation] = {}
        self._sizes: dict[int, int] = {}  # bytes, including operations that are being added
        self._size = 0  # the sum of them
        self._parent, self._folder = folder, folder / uuid.uuid4().hex
        self._file_lock: FileLock | None = None
        with self._record_errors():
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._folder.with_suffix(".lock"))
            lock.acquire(timeout=0)  # before another process can see the folder
            self._file_lock = lock
            self._folder.mkdir()

    @property
    def error(self) -> str | None:
        """Why the journal is not safely on disk at the moment; None if it is."""
        with self._lock:
            return self._error

    def recover(self) -> list[Operation]:
        """Take over the operations left by ended processes; from now on they are pending here."""
        recovered: list[Operation] = []
        with self._record_errors():
            for folder in sorted(self._parent.iterdir()):
                if not folder.is_dir() or folder == self._folder:
                    continue
                lock = FileLock(folder.with_suffix(".lock"))
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue  # its process is still running
                try:
                    operations = list(_read_folder(folder))
                    numbers = [self.add(operation) for operation in operations]
                    recovered += operations
                    if None not in numbers and self.error is None:
                        shutil.rmtree(folder)
                finally:
                    lock.release()
                    if not folder.exists():
                        folder.with_suffix(".lock").unlink(missing_ok=True)
        return recovered

    def start_draft(self, record: TurnRecord) -> "AnswerDraft":
        """Start the file of a question and its answer as it is generated."""
        return AnswerDraft(self, self._folder / f"{record.turn.id}{_DRAFT_SUFFIX}", record)

    def add(self, operation: Operation) -> int | None:
        """Store an operation until `remove` is called with the returned number; return None if too much is already pending."""
        number = self.try_add(operation, serialize_operation(operation), self._limit)
        if number is None:
            with self._lock:
                self._error = f"{self._limit // 1_000_000} MB are already pending"
            logger.error("Lost the %s of conversation %s: %s", operation.kind, operation.conversation_id, self._error)
        return number

    def try_add(self, operation: Operation, text: bytes, limit: int) -> int | None:
        """Like `add`, for an operation serialised as `text`; do nothing but return None if more than `limit` bytes would be pending."""
        with self._lock:
            if self._size + len(text) > limit:
                return None
            self._last_number += 1
            number = self._last_number
            self._sizes[number] = len(text)
            self._size += len(text)
        # Write the file first: once the operation is pending, another thread may remove both.
        with self._record_errors():
            _write_atomically(self._file(number), text)
        with self._lock:
            self._pending[number] = operation
        return number

    def list_pending(self) -> list[tuple[int, Operation]]:
        """Return all operations with their numbers, in order."""
        with self._lock:
            return sorted(self._pending.items(), key=lambda item: item[0])

    def is_pending(self, number: int) -> bool:
        """Return whether the operation has not been removed yet."""
        with self._lock:
            return number in self._pending

    def remove(self, number: int) -> None:
        """Remove an operation that is in the store or was cancelled."""
        with self._lock:
            self._pending.pop(number, None)
            self._size -= self._sizes.pop(number, 0)
            with contextlib.suppress(OSError):  # a remaining file is written to the store again, without effect
                self._file(number).unlink(missing_ok=True)

    def quarantine(self, number: int) -> None:
        """Remove an operation that the store keeps refusing, but keep its file next to the processes' folders."""
        with self._lock:
            with self._record_errors():
                self._file(number).rename(self._parent / f"{self._folder.name}-{number}.refused")
            self.remove(number)

    def retry_writes(self) -> None:
        """Retry writing the operations that are only in memory."""
        with self._lock:
            if self._error is None:
                return
            self._error = None
            for number, operation in self.list_pending():
                with self._record_errors():
                    if not self._file(number).exists():
                        self._folder.mkdir(parents=True, exist_ok=True)
                        _write_atomically(self._file(number), serialize_operation(operation))

    def close(self) -> None:
        """Release the folder; the next process recovers the operations that are still pending."""
        if self._file_lock is None:
            return
        if not self.list_pending() and self.error is None and not any(self._folder.glob(f"*{_DRAFT_SUFFIX}")):
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.with_suffix(".lock").unlink(missing_ok=True)
        self._file_lock.release()

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:012}{_OPERATION_SUFFIX}"

    @contextlib.contextmanager
    def _record_errors(self) -> Iterator[None]:
        """Catch an OSError of the block and set `error`."""
        try:
            yield
        except OSError as error:
            with self._lock:
                if self._error is None:
                    logger.warning("Cannot write the journal of conversations: %s", error)
                self._error = error.strerror or str(error)


class AnswerDraft:
    """The file of one answer that is being generated. Text is written within about a second, without an fsync.

    Only the thread that generates the answer may use it.
    """

    def __init__(self, journal: Journal, file: Path, record: TurnRecord) -> None:
        self._journal, self._file = journal, file
        self._unwritten: list[str] = []
        self._next_write_at = time.monotonic() + _DRAFT_INTERVAL
        self._append_line(serialize_operation(record))

    def append_text(self, text: str) -> None:
        """Add generated text."""
        self._unwritten.append(text)
        if time.monotonic() >= self._next_write_at:
            self._append_line(json.dumps("".join(self._unwritten)).encode())
            self._unwritten.clear()
            self._next_write_at = time.monotonic() + _DRAFT_INTERVAL

    def finish(self, record: TurnRecord) -> int | None:
        """Replace the draft with the complete turn, which is on disk when this returns. See `Journal.add`."""
        number = self._journal.add(record)
        self.discard()
        return number

    def discard(self) -> None:
        """Delete the draft."""
        with contextlib.suppress(OSError):  # recovery ignores the draft of a recorded turn
            self._file.unlink(missing_ok=True)

    def _append_line(self, line: bytes) -> None:
        with self._journal._record_errors(), self._file.open("ab") as out:
            out.write(line + b"\n")


def _write_atomically(file: Path, content: bytes) -> None:
    """Write a file that is complete and on disk when this returns. After an OSError, the file does not exist."""
    temporary = file.with_suffix(".tmp")
    try:
        with temporary.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _read_folder(folder: Path) -> Iterator[Operation]:
    """Yield the operations of an ended process, then the turns whose answers it was generating."""
    recorded = set[str]()
    for file in sorted(folder.glob(f"*{_OPERATION_SUFFIX}")):
        try:
            operation = parse_operation(file.read_bytes())
        except ValueError:
            target = folder.with_name(f"{folder.name}-{file.name}.unreadable")
            logger.exception("%s is not a journal entry; it is kept as %s", file, target)
            file.rename(target)
            continue
        if isinstance(operation, TurnRecord):
            recorded.add(operation.turn.id)
        yield operation
    for file in sorted(folder.glob(f"*{_DRAFT_SUFFIX}"), key=lambda draft: draft.stat().st_mtime):
        first, *lines = file.read_text(encoding="utf-8").split("\n")
        try:
            record = parse_operation(first)
        except ValueError:
            logger.warning("The draft %s is incomplete: its process ended while writing the question", file.name)
            continue
        if isinstance(record, TurnRecord) and record.turn.id not in recorded:
            yield interrupted_record(record, "".join(_parse_texts(lines)), file.stat().st_mtime)


def _parse_texts(lines: list[str]) -> Iterator[str]:
    for line in lines:
        with contextlib.suppress(ValueError):  # the last line may be incomplete
            yield str(json.loads(line))
