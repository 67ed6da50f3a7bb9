"""Chats on their way into MLflow: every turn a trace, whatever its ending, each exactly once.

Answers never wait for the store. What is to be written goes to the journal, and a thread of its own takes it from there
for as long as the store needs to take it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.entities import ExperimentTag
from mlflow.exceptions import MlflowException
from mlflow.tracing.client import TracingClient

from phi3_ui.chat.conversation import Feedback
from phi3_ui.errors import UserError
from phi3_ui.store.conversations import traces
from phi3_ui.store.conversations.journal import Journal, Part
from phi3_ui.store.conversations.operations import (
    ConversationDeletion,
    FeedbackChange,
    Operation,
    TagChange,
    TurnRecord,
)
from phi3_ui.store.errors import is_missing, translate_store_errors

JOURNAL_LIMIT = 64_000_000  # bytes
_RETRY_FIRST, _RETRY_LAST = 1.0, 30.0  # seconds
_TRIES = 5  # of what fails by itself while the store answers
_PAGE = 500
_PROBE = "phi3_ui.recorder"  # a tag of the experiment, set to see whether the store may be written

logger = logging.getLogger(__name__)


class Recorder:
    """The only writer of chats to one store. All methods return at once; nothing that fails here breaks a chat.

    `experiment_id` gives that of the experiment in which the traces are, made if need be.
    """

    def __init__(
        self, tracking_uri: str, experiment_id: Callable[[], str], folder: Path, limit: int = JOURNAL_LIMIT
    ) -> None:
        self._tracking_uri = tracking_uri
        self._experiment_id = experiment_id
        self._journal = Journal(folder, limit)
        self._open = set[str]()  # the turns under way
        self._failures: dict[int, int] = {}
        self._unwritten: UserError | None = None
        self._wake = threading.Condition()
        self._closing = self._ended = False
        self._news = True
        self.recovered = self._journal.adopt()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def warning(self) -> UserError | None:
        """Why chats are not safe in the store at the moment, if they are not."""
        if self._journal.problem:
            return UserError("not_journaled", detail=self._journal.problem)
        return self._unwritten

    def start_turn(self, record: TurnRecord) -> Part:
        """A question was asked. The Part takes the answer's words as they come, then goes to `end` or `discard`."""
        self._open.add(record.turn.id)
        return self._journal.begin(record)

    def finish_turn(self, part: Part, record: TurnRecord) -> None:
        """A turn has ended. When this returns it is safe on disk."""
        part.end(record)
        self._open.discard(record.turn.id)
        self._tell()

    def discard_turn(self, part: Part, record: TurnRecord) -> None:
        """A turn has ended that is not wanted any more."""
        part.discard()
        self._open.discard(record.turn.id)
        self._tell()

    def submit(self, *ops: Operation) -> None:
        """Write these, after all that came before."""
        for op in ops:
            self._journal.put(op)
        self._tell()

    def set_feedback(self, person: str, conversation: str, turn_id: str, feedback: Feedback | None) -> None:
        self.submit(FeedbackChange(person, conversation, turn_id, feedback))

    def cancel_deletion(self, person: str, conversation: str) -> bool:
        """Take back a deletion that was not carried out yet."""
        with self._wake:
            waiting = [
                number
                for number, op in self._journal.waiting()
                if isinstance(op, ConversationDeletion) and (op.person, op.conversation) == (person, conversation)
            ]
            for number in waiting:
                self._journal.done(number)
            return bool(waiting)

    def list_pending(self, person: str) -> list[Operation]:
        """What this person's chats still wait for, in order."""
        return [op for _, op in self._journal.waiting() if op.person == person]

    def is_in_progress(self, turn_id: str) -> bool:
        """Is this turn being answered now?"""
        return turn_id in self._open

    def flush(self, seconds: float) -> bool:
        """Wait until the store has everything that is due; False if it has not by then."""
        deadline = time.monotonic() + seconds
        with self._wake:
            self._news = True
            self._wake.notify_all()
            while any(self._due(op) for _, op in self._journal.waiting()):
                if not self._wake.wait(timeout=max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    return False
        return True

    def close(self, seconds: float = 5.0) -> None:
        """Give the store so long to take what is left; the rest is the next process's."""
        self._closing = True
        self.flush(seconds)
        self._ended = True
        self._tell()
        self._thread.join(timeout=1.0)
        self._journal.close()

    def _tell(self) -> None:
        with self._wake:
            self._news = True
            self._wake.notify_all()

    def _due(self, op: Operation) -> bool:
        if isinstance(op, ConversationDeletion):
            return self._closing or op.due <= time.time()
        # There is nothing to mark yet where the turn is not recorded.
        return not isinstance(op, TagChange | FeedbackChange) or op.turn_id not in self._open

    def _run(self) -> None:
        pause = _RETRY_FIRST
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._news, timeout=self._pause(pause))
                self._news = False
            try:
                written = self._write_all()
            except Exception:
                logger.exception("the recorder failed")
                written = False
            pause = _RETRY_FIRST if written else min(2 * pause, _RETRY_LAST)
            with self._wake:
                self._wake.notify_all()
                if self._ended:
                    return

    def _pause(self, retry: float) -> float | None:
        """Seconds until there is something to do by itself; None: nothing is."""
        waiting = [op for _, op in self._journal.waiting()]
        if any(self._due(op) for op in waiting) or self._journal.problem:
            return retry
        due = [op.due for op in waiting if isinstance(op, ConversationDeletion)]
        return max(0.0, min(due) - time.time()) if due else None

    def _write_all(self) -> bool:
        """Try all that is due once, in order; False if something is left."""
        self._journal.rewrite()
        held = set[str]()  # conversations of which something failed: what comes after it waits
        # Turns first: what is said of one may have come before its end.
        for number, op in sorted(self._journal.waiting(), key=lambda one: not isinstance(one[1], TurnRecord)):
            if not self._due(op) or op.conversation in held:
                continue
            try:
                with translate_store_errors(self._tracking_uri):
                    self._write(op)
            except UserError as error:
                self._unwritten = UserError("not_recorded", detail=str(error.values["detail"]))
                if not self._takes_others():
                    return False
                held.add(op.conversation)
                self._give_up_at_last(number, op, error)
                continue
            except Exception as error:
                held.add(op.conversation)
                self._give_up_at_last(number, op, error)
                continue
            self._failures.pop(number, None)
            self._journal.done(number)
        if not held:
            self._unwritten = None
        return not held

    def _takes_others(self) -> bool:
        """Does the store take anything at all? Then what failed did so by itself."""
        try:
            with translate_store_errors(self._tracking_uri):
                self._client.store.set_experiment_tag(self._experiment_id(), ExperimentTag(_PROBE, "1"))
        except UserError:
            return False
        return True

    def _give_up_at_last(self, number: int, op: Operation, error: Exception) -> None:
        self._failures[number] = self._failures.get(number, 0) + 1
        if self._failures[number] >= _TRIES:
            logger.error("The store does not take %s of conversation %s", op.kind, op.conversation, exc_info=error)
            self._journal.set_aside(number)

    @property
    def _client(self) -> TracingClient:
        return TracingClient(self._tracking_uri)

    def _write(self, op: Operation) -> None:
        match op:
            case TurnRecord():
                experiment = self._experiment_id()
                self._client.start_trace(traces.trace_info(op, experiment))
                self._client.log_spans(experiment, traces.spans(op))
            case FeedbackChange(person, _, turn_id, feedback):
                with _unless_gone():
                    self._rate(person, traces.trace_id_for(turn_id), feedback)
            case TagChange(_, _, turn_id, key, value):
                with _unless_gone():
                    trace_id = traces.trace_id_for(turn_id)
                    self._client.get_trace_info(trace_id)
                    self._client.set_trace_tag(trace_id, key, value)
            case ConversationDeletion(person, conversation):
                self._delete(person, conversation)

    def _rate(self, person: str, trace_id: str, feedback: Feedback | None) -> None:
        given = traces.assessment_of(self._client.get_trace_info(trace_id))
        if feedback is None:
            if given:
                self._client.delete_assessment(trace_id, given.assessment_id)
        elif given:
            self._client.update_assessment(trace_id, given.assessment_id, traces.assessment(person, feedback))
        else:
            self._client.log_assessment(trace_id, traces.assessment(person, feedback))

    def _delete(self, person: str, conversation: str) -> None:
        experiment = self._experiment_id()
        query = f"metadata.`{traces.SESSION}` = '{conversation}' AND metadata.`{traces.USER}` = '{person}'"
        while True:
            found = self._client.search_traces(
                locations=[experiment], filter_string=query, max_results=_PAGE, include_spans=False
            )
            if not found:
                return
            self._client.delete_traces(experiment, trace_ids=[trace.info.trace_id for trace in found])


@contextmanager
def _unless_gone() -> Iterator[None]:
    """What is to be changed may have been deleted meanwhile."""
    try:
        yield
    except MlflowException as error:
        if not is_missing(error):
            raise
