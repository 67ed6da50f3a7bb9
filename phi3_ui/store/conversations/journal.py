"""What the store has not taken yet, on disk: it outlives the process, and is written down before anybody is told it is done.

Each process has a folder of its own, held by a lock that the kernel frees when it ends; whoever starts next takes over
what it left.
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
    interrupted,
    parse_operation,
    serialize_operation,
)

_TEXT_EVERY = 1.0  # seconds between writings of an answer under way
_PART, _OP = ".part", ".json"

logger = logging.getLogger(__name__)


class Journal:
    """Operations in the order in which they came. What the disk does not take is held in memory, and `problem` says why.

    `limit` is how many bytes may wait; what comes beyond is refused, and logged.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.problem: str | None = None
        self._limit = limit
        self._lock = threading.RLock()
        self._numbers = 0
        self._waiting: dict[int, tuple[Operation, int]] = {}
        self._parent, self._folder = folder, folder / uuid.uuid4().hex
        self._held: FileLock | None = None
        with self._trying():
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._folder.with_suffix(".lock"))
            lock.acquire(timeout=0)  # before the folder is there for others to see
            self._held = lock
            self._folder.mkdir()

    def adopt(self) -> list[Operation]:
        """Take over what processes that have ended left behind: it waits here from now on."""
        adopted: list[Operation] = []
        with self._trying():
            for folder in sorted(self._parent.iterdir()):
                if not folder.is_dir() or folder == self._folder:
                    continue
                lock = FileLock(folder.with_suffix(".lock"))
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue  # its process runs
                try:
                    ops = list(_left_in(folder))
                    kept = [self.put(op) for op in ops]
                    adopted += ops
                    if all(number is not None for number in kept) and self.problem is None:
                        shutil.rmtree(folder)
                finally:
                    lock.release()
                    if not folder.exists():
                        folder.with_suffix(".lock").unlink(missing_ok=True)
        return adopted

    def begin(self, record: TurnRecord) -> "Part":
        """Note a question, and from there what its answer grows to."""
        return Part(self, self._folder / f"{record.turn.id}{_PART}", record)

    def put(self, op: Operation) -> int | None:
        """Keep an operation until it is `done`; its number. None if too much waits already."""
        text = serialize_operation(op).encode()
        with self._lock:
            if sum(size for _, size in self._waiting.values()) + len(text) > self._limit:
                self.problem = f"{self._limit // 1_000_000} MB wait already"
                logger.error("Not kept, for %s: %s of conversation %s", self.problem, op.kind, op.conversation)
                return None
            self._numbers += 1
            number = self._numbers
            self._waiting[number] = (op, len(text))
        with self._trying():
            _write(self._file(number), text)
        return number

    def waiting(self) -> list[tuple[int, Operation]]:
        """What is kept, in order."""
        with self._lock:
            return [(number, op) for number, (op, _) in sorted(self._waiting.items())]

    def done(self, number: int) -> None:
        """The store has it, or it is not wanted any more."""
        with self._lock:
            self._waiting.pop(number, None)
        with contextlib.suppress(OSError):
            self._file(number).unlink(missing_ok=True)

    def set_aside(self, number: int) -> None:
        """It can never be written: keep its file for a person to look at, beside the folders of the processes."""
        with self._trying():
            self._file(number).rename(self._parent / f"{self._folder.name}-{number}.refused")
        self.done(number)

    def rewrite(self) -> None:
        """Write what is in memory alone, if the disk takes it now."""
        if self.problem is None:
            return
        self.problem = None
        for number, op in self.waiting():
            with self._trying():
                if not self._file(number).exists():
                    self._folder.mkdir(parents=True, exist_ok=True)
                    _write(self._file(number), serialize_operation(op).encode())

    def close(self) -> None:
        """Leave what still waits to the next process."""
        if self._held and not self.waiting() and self.problem is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.with_suffix(".lock").unlink(missing_ok=True)
        if self._held:
            self._held.release()

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:012}{_OP}"

    @contextlib.contextmanager
    def _trying(self) -> Iterator[None]:
        """In the block the disk may refuse: `problem` says so."""
        try:
            yield
        except OSError as error:
            if self.problem is None:
                logger.warning("The journal of chats cannot be written: %s", error)
            self.problem = error.strerror or str(error)


class Part:
    """One answer under way. Its words are on disk a second after they came, without waiting for the disk."""

    def __init__(self, journal: Journal, file: Path, record: TurnRecord) -> None:
        self._journal, self._file = journal, file
        self._pieces: list[str] = []
        self._next = time.monotonic() + _TEXT_EVERY
        self._add(serialize_operation(record))

    def text(self, piece: str) -> None:
        self._pieces.append(piece)
        if time.monotonic() >= self._next:
            self._add(json.dumps("".join(self._pieces)))
            self._pieces.clear()
            self._next = time.monotonic() + _TEXT_EVERY

    def end(self, record: TurnRecord) -> int | None:
        """The whole turn; it is on disk when this returns, where the disk takes it."""
        number = self._journal.put(record)
        self.discard()
        return number

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)

    def _add(self, line: str) -> None:
        with self._journal._trying(), self._file.open("a", encoding="utf-8") as out:
            out.write(f"{line}\n")


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all, and on the disk when this returns."""
    part = file.with_suffix(".tmp")
    try:
        with part.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def _left_in(folder: Path) -> Iterator[Operation]:
    """What a process left: its operations, then the turns that it was in the middle of."""
    recorded = set()
    for file in sorted(folder.glob(f"*{_OP}")):
        try:
            op = parse_operation(file.read_bytes())
        except ValueError:
            logger.exception("%s is no operation of a journal; it is left where it is", file)
            file.rename(folder.with_name(f"{folder.name}-{file.name}.unreadable"))
            continue
        if isinstance(op, TurnRecord):
            recorded.add(op.turn.id)
        yield op
    for file in sorted(folder.glob(f"*{_PART}"), key=lambda part: part.stat().st_mtime):
        begun, *pieces = file.read_text(encoding="utf-8").split("\n")
        try:
            record = parse_operation(begun)
        except ValueError:
            continue  # it ended while the question itself was written
        if isinstance(record, TurnRecord) and record.turn.id not in recorded:
            yield interrupted(record, "".join(_texts(pieces)), file.stat().st_mtime)


def _texts(lines: list[str]) -> Iterator[str]:
    for line in lines:
        with contextlib.suppress(ValueError):  # the last may have been cut short
            yield str(json.loads(line))
