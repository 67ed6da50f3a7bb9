"""Writes conversations to MLflow: each turn becomes exactly one trace, however its answer ended.

Answers never wait for the store. Operations go to the journal, and one thread writes them to the store, retrying for as long
as necessary. Imports have the lowest priority: between two turns of an import, everything else that is due is written.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from phi3_ui.chat.conversation import Feedback
from phi3_ui.errors import UserError
from phi3_ui.store.conversations.change_log import ChangeLog
from phi3_ui.store.conversations.import_ticket import ImportProgress, ImportState, ImportTicket
from phi3_ui.store.conversations.journal import AnswerDraft, Journal
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.operations import (
    ConversationDeletion,
    ConversationImport,
    FeedbackChange,
    Operation,
    Step,
    TagChange,
    TurnRecord,
    VoteRecord,
    list_steps,
    serialize_operation,
)
from phi3_ui.store.conversations.trace_writer import TraceWriter

JOURNAL_LIMIT = 64_000_000  # bytes
_RETRY_FIRST, _RETRY_LAST = 1.0, 30.0  # seconds
_MAX_ATTEMPTS = 5  # for an operation that fails while the store accepts others
_CANCEL_INTERVAL = 0.5  # seconds

logger = logging.getLogger(__name__)


class Recorder:
    """The only writer of conversations to one store. Thread-safe; a failing or slow store never blocks or breaks a chat."""

    def __init__(self, locate: Callable[[], ChatLocation], folder: Path, limit: int = JOURNAL_LIMIT) -> None:
        """Recover the journals in `folder` and start the writing thread.

        Args:
            locate: Returns the experiment of the traces, and creates it if needed; raises UserError if the store fails.
            folder: The folder of the journals.
            limit: The maximum number of pending bytes.
        """
        self._writer = TraceWriter(locate)
        self.change_log = ChangeLog(locate)
        """The changes of this server, and of other servers."""
        self._journal = Journal(folder, limit)
        # This condition's lock guards the state below, and it is notified of every change.
        self._changed = threading.Condition()
        self._in_progress: dict[str, str] = {}  # conversation ids by turn id
        self._writing: int | None = None
        self._store_error: UserError | None = None
        self._closing = self._stopped = False
        self._has_work = True
        self._imports: dict[str, ImportTicket] = {}  # those that are pending, by conversation id
        self._attempts: dict[int, int] = {}  # used by the writing thread only, like the next one
        self._steps: dict[int, list[Step]] = {}  # the remaining steps of each operation, last step first
        self._import_limit = limit // 2  # the other half is reserved for concurrent chats
        self.recovered = self._journal.recover()
        """The operations that earlier processes could not write."""
        for one in self.recovered:
            if isinstance(one, ConversationImport):
                self._imports[one.conversation_id] = ImportTicket()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def warning(self) -> UserError | None:
        """Why conversations are not safely stored at the moment; None if they are.

        Its code is not_journaled, not_recorded, or a state of the store that someone has to change: experiment_deleted,
        store_read_only, store_schema_old, store_schema_new.
        """
        if error := self._journal.error:
            return UserError("not_journaled", detail=error)
        with self._changed:
            return self._store_error

    def start_turn(self, record: TurnRecord) -> AnswerDraft:
        """Record a question. Add the generated text to the returned draft, then pass it to `finish_turn` or `discard_turn`."""
        with self._changed:
            self._in_progress[record.turn.id] = record.conversation_id
        return self._journal.start_draft(record)

    def finish_turn(self, draft: AnswerDraft, record: TurnRecord) -> None:
        """Record a turn whose answer has ended. It is on disk when this returns."""
        draft.finish(record)
        self._end_turn(record)

    def discard_turn(self, draft: AnswerDraft, record: TurnRecord) -> None:
        """Forget a turn whose answer has ended."""
        draft.discard()
        self._end_turn(record)

    def submit(self, *operations: Operation) -> None:
        """Queue operations, to be written after all that were submitted before."""
        for operation in operations:
            self._journal.add(operation)
        self._notify()

    def submit_import(self, operation: ConversationImport, is_cancelled: Callable[[], bool]) -> ImportTicket | None:
        """Queue the import of a conversation. Block until the journal has room for it; it is on disk when this returns.

        Returns:
            A ticket to wait for the store; None if `is_cancelled`, polled twice a second, became true before there was room.

        Raises:
            UserError: import_chat_too_large; import_not_kept if it cannot be written to disk.
        """
        text = serialize_operation(operation)
        if len(text) > self._import_limit:
            raise UserError("import_chat_too_large", size=self._import_limit // 1_000_000)
        with self._changed:
            ticket = self._imports[operation.conversation_id] = ImportTicket()
        while (number := self._journal.try_add(operation, text, self._import_limit)) is None:
            if is_cancelled():
                self._end_import(operation, ImportProgress(state="deleted"))
                return None
            with self._changed:
                self._changed.wait(_CANCEL_INTERVAL)
        if error := self._journal.error:
            self._journal.remove(number)
            self._undo_import(operation, "refused")
            raise UserError("import_not_kept", detail=error)
        self._notify()
        return ticket

    def set_feedback(self, visitor_id: str, conversation_id: str, turn_id: str, feedback: Feedback | None) -> None:
        """Submit a visitor's feedback on an answer; None removes it."""
        self.submit(FeedbackChange(visitor_id, conversation_id, turn_id, feedback))

    def cancel_deletion(self, visitor_id: str, conversation_id: str) -> bool:
        """Cancel a pending deletion; return False if there is none, or it is being executed."""
        with self._changed:
            cancelled = [
                number
                for number, operation in self._journal.list_pending()
                if isinstance(operation, ConversationDeletion)
                and (operation.visitor_id, operation.conversation_id) == (visitor_id, conversation_id)
                and number != self._writing
            ]
            for number in cancelled:
                self._journal.remove(number)
            return bool(cancelled)

    def list_pending(self, visitor_id: str) -> list[Step]:
        """Return this visitor's operations that are not in the store yet, in order; imports as their steps."""
        own = [operation for _, operation in self._journal.list_pending() if operation.visitor_id == visitor_id]
        return [step for operation in own for step in list_steps(operation)]

    def list_busy(self, visitor_id: str) -> set[str]:
        """Return the ids of conversations that the store may lack: with pending operations of this visitor, or turns in progress."""
        with self._changed:
            answering = set(self._in_progress.values())
        return answering | {one.conversation_id for one in self.list_pending(visitor_id)}

    def is_in_progress(self, turn_id: str) -> bool:
        """Return whether this turn is being answered."""
        with self._changed:
            return turn_id in self._in_progress

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until everything that is due is in the store; return whether it is."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._has_work = True
            self._changed.notify_all()
            while any(self._is_due(operation) for _, operation in self._journal.list_pending()):
                remaining = deadline - time.monotonic()
                if not self._changed.wait(timeout=max(0.0, remaining)) and time.monotonic() >= deadline:
                    return False
        return True

    def close(self, timeout: float = 5.0) -> None:
        """Flush for up to `timeout` seconds and stop; the next process recovers the rest. Pending deletions become due."""
        with self._changed:
            self._closing = True
        self.flush(timeout)
        with self._changed:
            self._stopped = True
        self._notify()
        self._thread.join(timeout=1.0)
        self._journal.close()

    def _end_turn(self, record: TurnRecord) -> None:
        with self._changed:
            self._in_progress.pop(record.turn.id, None)
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._has_work = True
            self._changed.notify_all()

    def _is_due(self, operation: Operation) -> bool:
        """Return whether it can be written now. Call it with the lock held."""
        if isinstance(operation, ConversationDeletion):
            # A turn in progress would be written after the deletion.
            is_answering = operation.conversation_id in self._in_progress.values()
            return not is_answering and (self._closing or operation.due_at <= time.time())
        if isinstance(operation, VoteRecord):
            return not any(turn_id in self._in_progress for turn_id in operation.turn_ids)
        # There is no trace to change while the turn is in progress or being imported.
        return not isinstance(operation, TagChange | FeedbackChange) or (
            operation.turn_id not in self._in_progress and operation.conversation_id not in self._imports
        )

    def _run(self) -> None:
        retry_after = _RETRY_FIRST
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._has_work, timeout=self._idle_seconds(retry_after))
                self._has_work = False
            try:
                complete = self._write_all()
            except Exception:
                logger.exception("The recorder failed; retrying in %s s", retry_after)
                complete = False
            self.change_log.flush()
            retry_after = _RETRY_FIRST if complete else min(2 * retry_after, _RETRY_LAST)
            with self._changed:
                self._changed.notify_all()
                if self._stopped:
                    return

    def _idle_seconds(self, retry_after: float) -> float | None:
        """Return the seconds to wait for a notification; None (forever) if nothing is pending. Call it with the lock held."""
        pending = [operation for _, operation in self._journal.list_pending()]
        if any(map(self._is_due, pending)) or self._journal.error:
            return retry_after
        due = [
            operation.due_at
            for operation in pending
            if isinstance(operation, ConversationDeletion)
            and operation.conversation_id not in self._in_progress.values()
        ]
        return max(0.0, min(due) - time.time()) if due else None

    def _write_all(self) -> bool:
        """Try to write everything that is due once, in order, and the next step of each import; return False if anything failed."""
        self._journal.retry_writes()
        blocked = set[str]()  # conversations with a failed operation, which blocks their later ones
        pending = sorted(self._journal.list_pending(), key=lambda item: _rank(item[1]))
        for number, operation in pending:
            if operation.conversation_id in blocked or not self._claim(number, operation):
                continue
            error = self._try_write(number, operation)
            if error is None:
                continue
            if isinstance(error, UserError):
                self._set_store_error(error)
                if obstacle := self._writer.find_obstacle():
                    self._set_store_error(obstacle)
                    return False
            blocked.add(operation.conversation_id)
            self._count_attempt(number, operation, error)
        if not blocked:
            with self._changed:
                self._store_error = None
        return not blocked

    def _set_store_error(self, error: UserError) -> None:
        """Set the warning for an error. A transient one becomes not_recorded; the others name a remedy."""
        is_transient = error.code == "store_unreachable"
        warning = UserError("not_recorded", detail=str(error.values["detail"])) if is_transient else error
        with self._changed:
            self._store_error = warning

    def _claim(self, number: int, operation: Operation) -> bool:
        """Mark an operation as being written, unless it is not due or was cancelled."""
        with self._changed:
            if not self._is_due(operation) or not self._journal.is_pending(number):
                return False
            if isinstance(operation, ConversationDeletion) and operation.conversation_id in self._imports:
                self._cancel_imports(operation)
            self._writing = number
            return True

    def _cancel_imports(self, deletion: ConversationDeletion) -> None:
        """Cancel the imports of the conversation that is about to be deleted."""
        owner = deletion.visitor_id, deletion.conversation_id
        for number, other in self._journal.list_pending():
            if isinstance(other, ConversationImport) and (other.visitor_id, other.conversation_id) == owner:
                self._journal.remove(number)
                self._steps.pop(number, None)
                self._end_import(other, ImportProgress(state="deleted"))

    def _try_write(self, number: int, operation: Operation) -> Exception | None:
        """Write a claimed operation, or the next step of an import, and return the error, if any.

        A completely written operation is removed from the journal.
        """
        if number not in self._steps:
            self._steps[number] = list_steps(operation)[::-1]
        steps = self._steps[number]
        try:
            self._writer.write(steps[-1])
        except Exception as error:  # noqa: BLE001 - returned; no error may block the other conversations
            return error
        else:
            self._attempts.pop(number, None)
            steps.pop()
            self._report_step(number, operation, is_last=not steps)
            return None
        finally:
            with self._changed:
                self._writing = None

    def _report_step(self, number: int, operation: Operation, is_last: bool) -> None:
        """Remove an operation that is completely written, or report the progress of an import."""
        if is_last:
            del self._steps[number]
            self.change_log.add(operation.visitor_id, operation.conversation_id)
            self._journal.remove(number)
            self._end_import(operation, ImportProgress(state="stored"))
            return
        with self._changed:
            self._has_work = True
            if ticket := self._imports.get(operation.conversation_id):
                ticket.report(ImportProgress(ticket.progress.written + 1))

    def _end_import(self, operation: Operation, progress: ImportProgress) -> None:
        """Report the end of an operation, if it is an import."""
        if isinstance(operation, ConversationImport):
            with self._changed:
                ticket = self._imports.pop(operation.conversation_id, None)
            if ticket:
                ticket.report(progress)

    def _undo_import(self, operation: ConversationImport, state: ImportState) -> None:
        """Delete the written part of a failed import, so that imports are atomic."""
        self._end_import(operation, ImportProgress(state=state))
        self.submit(ConversationDeletion(operation.visitor_id, operation.conversation_id, time.time()))

    def _count_attempt(self, number: int, operation: Operation, error: Exception) -> None:
        self._attempts[number] = self._attempts.get(number, 0) + 1
        level = logging.ERROR if self._attempts[number] >= _MAX_ATTEMPTS else logging.INFO
        logger.log(
            level,
            "The store refuses the %s of conversation %s (attempt %s)",
            operation.kind,
            operation.conversation_id,
            self._attempts[number],
            exc_info=error,
        )
        if self._attempts[number] >= _MAX_ATTEMPTS:
            del self._attempts[number]
            self._steps.pop(number, None)
            self._journal.quarantine(number)
            if isinstance(operation, ConversationImport):
                self._undo_import(operation, "refused")


def _rank(operation: Operation) -> int:
    """Return the sort key: turns come first, since feedback and tags may be older than the record of their turn. Imports come last."""
    return 0 if isinstance(operation, TurnRecord) else 2 if isinstance(operation, ConversationImport) else 1
