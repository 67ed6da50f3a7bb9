"""Background imports: each adds the chats of one file to its user's history, one chat after another.

The file is an unlinked temporary file: no path leads to it, and its space is freed however the import or the process ends.
"""

import logging
import tempfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

from phi3_ui.accounts.quotas import Person
from phi3_ui.errors import UserError
from phi3_ui.export.chat_file import ReadChat, iterate_chats
from phi3_ui.export.refusal import ChatPlace, ImportRefusedError
from phi3_ui.store.conversations.import_ticket import ImportProgress
from phi3_ui.store.conversations.turn_writer import ConversationStore, ImportedConversation

_MAX_JOBS = 16  # concurrent, across all users: each may hold a file on disk, and a chat in memory
_MAX_KNOWN = 1000  # users whose last import is remembered
_MAX_REASONS = 200  # kept; all are counted
_WAIT = 0.5  # seconds between checks whether an import was cancelled

logger = logging.getLogger(__name__)

Key = tuple[str, str]


@dataclass(frozen=True)
class ImportState:
    """The progress of an import."""

    position: float = 0.0
    """Bytes of the file whose chats are stored or refused, approximately."""
    size: int = 0
    chats: int = 0
    """Chats that are stored completely."""
    turns: int = 0
    """Questions of these chats, and those of the next chat that are already stored."""
    refused: int = 0
    """Number of chats that are not imported; an unreadable rest of the file counts as one."""
    reasons: tuple[ImportRefusedError, ...] = ()
    """The reasons, for the first of them."""
    first_id: str | None = None
    """Id of the first chat that was stored."""
    is_cancelled: bool = False
    is_finished: bool = False


class ImportJob:
    """The import of one file. Thread-safe: its own thread changes the state, under the lock."""

    def __init__(self, store: ConversationStore, person: Person, file: BinaryIO) -> None:
        """`file` belongs to the job, which closes it."""
        self.person = person
        self.file = file
        self._store = store
        self._lock = threading.Lock()
        self._state = ImportState()
        self._cancelled, self._closing, self._finished = threading.Event(), threading.Event(), threading.Event()

    @property
    def state(self) -> ImportState:
        """The current state."""
        with self._lock:
            return self._state

    def cancel(self) -> None:
        """Import nothing more. Completely stored chats are kept."""
        self._cancelled.set()

    def close(self) -> None:
        """End at shutdown: the chat that is being written is completed at the next start."""
        self._closing.set()
        self._cancelled.set()

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the end; return whether it was reached."""
        return self._finished.wait(timeout)

    def run(self) -> None:
        """Import the file, until its end or until cancelled."""
        try:
            with self.file:
                self._import_all(self.file)
        except Exception as error:
            logger.exception("The import of %s failed", self.person.user_id)
            self._refuse(ImportRefusedError("unexpected", detail=type(error).__name__))
        finally:
            self._update(is_finished=True)
            self._finished.set()

    def _import_all(self, file: BinaryIO) -> None:
        self._update(size=file.seek(0, 2))
        for found in iterate_chats(file):
            if self._cancelled.is_set():
                self._update(is_cancelled=True)
                return
            if not isinstance(found, ReadChat):
                self._refuse(found)
            elif not found.conversation.tree:
                self._refuse(ImportRefusedError("no_messages").at(found.place))
            else:
                self._import_chat(found, file.tell())
            self._update(position=file.tell())

    def _import_chat(self, chat: ReadChat, end: int) -> None:
        """Import a chat that ends at position `end` of the file."""
        user_id = self.person.user_id
        try:
            imported = self._store.import_conversation(user_id, chat.conversation, chat.title, self._cancelled.is_set)
        except UserError as error:
            self._refuse(ImportRefusedError(error.code.removeprefix("import_"), **error.values).at(chat.place))
            return
        if imported is None:
            self._update(is_cancelled=True)
            return
        start, turns, count = self.state.position, self.state.turns, len(chat.conversation.tree)
        progress = imported.ticket.progress
        while progress.state == "writing" and not self._cancelled.is_set():
            written = min(progress.written, count)
            self._update(turns=turns + written, position=start + (end - start) * written / count)
            progress = imported.ticket.wait(_WAIT, progress)
        self._end_chat(imported, progress, chat.place, turns)

    def _end_chat(self, imported: ImportedConversation, progress: ImportProgress, place: ChatPlace, turns: int) -> None:
        if progress.state == "stored":
            state = self.state
            turns += len(imported.conversation.tree)
            self._update(chats=state.chats + 1, turns=turns, first_id=state.first_id or imported.id)
            return
        self._update(turns=turns)
        if progress.state == "writing":
            self._update(is_cancelled=True)
        else:
            code = "deleted" if progress.state == "deleted" else "store_refused"
            self._refuse(ImportRefusedError(code).at(place))
        if not self._closing.is_set():
            self._store.delete_import(self.person.user_id, imported.id)

    def _refuse(self, reason: ImportRefusedError) -> None:
        state = self.state
        kept = (*state.reasons, reason) if len(state.reasons) < _MAX_REASONS else state.reasons
        self._update(refused=state.refused + 1, reasons=kept)

    def _update(self, **changes: object) -> None:
        with self._lock:
            self._state = replace(self._state, **changes)  # type: ignore[arg-type]  # fields of the state


class Imports:
    """The imports of all users: one at a time per user, whose last one is remembered. Thread-safe."""

    def __init__(self, store: ConversationStore, folder: Path) -> None:
        """`folder` is on the disk that is to hold the files."""
        self._store = store
        self._folder = folder
        self._lock = threading.Lock()
        self._running = Counter[Key]()
        self._count = 0  # of imports being received or running
        self._jobs: OrderedDict[str, ImportJob] = OrderedDict()
        self._threads: set[threading.Thread] = set()
        self._is_closed = False

    @contextmanager
    def receive(self, person: Person) -> Iterator[ImportJob]:
        """Yield a job whose file the block fills; the job starts after the block, unless that raises.

        Raises:
            UserError: import_running (for this user, or too many for the address), imports_busy.
        """
        self._claim(person)
        try:
            file = cast(BinaryIO, tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115 - the job closes it
            try:
                job = ImportJob(self._store, person, file)
                yield job
            except BaseException:
                file.close()
                raise
        except BaseException:
            self._release(person)
            raise
        self._start(job)

    def find(self, user_id: str) -> ImportJob | None:
        """Return the user's last import."""
        with self._lock:
            return self._jobs.get(user_id)

    def close(self, timeout: float) -> None:
        """End all imports at shutdown, and wait up to `timeout` seconds for each."""
        with self._lock:
            self._is_closed = True
            jobs, threads = list(self._jobs.values()), list(self._threads)
        for job in jobs:
            job.close()
        for thread in threads:
            thread.join(timeout)

    def _start(self, job: ImportJob) -> None:
        def run() -> None:
            try:
                job.run()
            finally:
                self._release(job.person)
                with self._lock:
                    self._threads.discard(thread)

        thread = threading.Thread(target=run, name="import", daemon=True)
        with self._lock:
            self._jobs[job.person.user_id] = job
            self._jobs.move_to_end(job.person.user_id)
            while len(self._jobs) > _MAX_KNOWN:
                self._jobs.popitem(last=False)
            self._threads.add(thread)
            if self._is_closed:
                job.close()
        thread.start()

    def _claim(self, person: Person) -> None:
        with self._lock:
            keys = list(person.find_keys())
            if any(self._running[key] >= people for key, people in keys):
                raise UserError("import_running")
            if self._count >= _MAX_JOBS:
                raise UserError("imports_busy")
            self._count += 1
            self._running.update(key for key, _ in keys)

    def _release(self, person: Person) -> None:
        with self._lock:
            self._count -= 1
            for key, _ in person.find_keys():
                self._running[key] -= 1
                if self._running[key] <= 0:
                    del self._running[key]
