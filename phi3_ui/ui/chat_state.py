"""One chat of an open page: its conversation and the turn in progress.

Gradio runs handlers in a thread pool, so several threads work on one chat: it changes its fields under its own lock, through
its methods, and nothing else writes them.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from phi3_ui.chat.conversation import Answer, Conversation, Feedback, new_id
from phi3_ui.chat.running_turn import RunningTurn, TurnSnapshot
from phi3_ui.errors import UserError


@dataclass(frozen=True)
class StartedTurn:
    """A turn reserved by Chat.try_start."""

    conversation: Conversation
    """Its last shown turn is the new one."""

    @property
    def turn_id(self) -> str:
        """The new turn's id."""
        return self.conversation.turns[-1].id


class Chat:
    """One conversation on one page. At most one turn at a time is in progress, from try_start to finish or abort_start."""

    def __init__(self, chat_id: str | None = None, conversation: Conversation | None = None) -> None:
        self._lock = threading.Lock()
        self._started = threading.Condition(self._lock)
        self._id = chat_id or new_id()
        self._conversation = conversation or Conversation()
        self._is_busy = False
        self._leaf_before_start: str | None = None
        self._running: RunningTurn | None = None
        self._is_stop_requested = False
        self._progress: TurnSnapshot | None = None

    @property
    def id(self) -> str:
        """The conversation's id in the store."""
        return self._id

    @property
    def conversation(self) -> Conversation:
        """The current value."""
        return self._conversation

    @property
    def is_busy(self) -> bool:
        """Whether a turn is being started or answered."""
        return self._is_busy

    @property
    def running(self) -> RunningTurn | None:
        """The turn in progress, once it runs."""
        return self._running

    def await_running(self) -> RunningTurn | None:
        """Return the turn in progress, after waiting for one that is being started; None if there is none."""
        with self._started:
            self._started.wait_for(lambda: self._running or not self._is_busy)
            return self._running

    @property
    def progress(self) -> TurnSnapshot | None:
        """The last reported state of the turn in progress."""
        return self._progress

    # A turn in progress

    def try_start(self, change: Callable[[Conversation], Conversation]) -> StartedTurn | None:
        """Reserve the chat for a new turn, which `change` adds; None if another one is in progress.

        Follow up with `attach`, or with `abort_start` if the turn could not be started.
        """
        with self._lock:
            if self._is_busy:
                return None
            changed = change(self._conversation)
            self._leaf_before_start = self._conversation.leaf
            self._conversation, self._is_busy, self._is_stop_requested = changed, True, False
            return StartedTurn(changed)

    def attach(self, turn: RunningTurn) -> None:
        """Set the turn that `try_start` reserved; it is stopped at once if that was requested in the meantime."""
        with self._lock:
            self._running = turn
            self._started.notify_all()
            is_stop_requested = self._is_stop_requested
        if is_stop_requested:
            turn.stop()

    def abort_start(self, turn_id: str) -> None:
        """Remove a reserved turn that could not be started."""
        with self._lock:
            tree = tuple(turn for turn in self._conversation.tree if turn.id != turn_id)
            self._conversation = Conversation(tree, self._leaf_before_start)
            self._is_busy = False
            self._started.notify_all()

    def report_progress(self, turn: RunningTurn, snapshot: TurnSnapshot) -> None:
        """Set the progress, unless `turn` has ended already."""
        with self._lock:
            if self._running is turn:
                self._progress = snapshot

    def finish(self, turn_id: str, answer: Answer) -> None:
        """Store the answer of the turn in progress, however it ended, and free the chat for the next turn."""
        with self._lock:
            self._conversation = self._conversation.with_answer(answer, turn_id)
            self._is_busy, self._running, self._progress = False, None, None
            self._started.notify_all()

    def stop(self) -> None:
        """Stop the turn in progress, even one that is still being started."""
        with self._lock:
            self._is_stop_requested = self._is_busy
            running = self._running
        if running:
            running.stop()

    # Changes between turns

    def apply(
        self,
        change: Callable[[Conversation], Conversation],
        save: Callable[[Conversation], None] = lambda _: None,
    ) -> None:
        """Change the conversation and `save` it.

        Raises:
            UserError: chat_busy while a turn is in progress; whatever `change` and `save` raise.
        """
        with self._lock:
            if self._is_busy:
                raise UserError("chat_busy")
            changed = change(self._conversation)
            save(changed)
            self._conversation = changed

    def refresh(self, expected: Conversation, stored: Conversation) -> bool:
        """Replace the conversation with the one loaded from the store; return False if it is no longer `expected`."""
        with self._lock:
            if self._is_busy or self._conversation is not expected:
                return False
            self._conversation = stored
            return True

    def restart(self) -> bool:
        """Become a new, empty chat after the stored one was deleted; return False while a turn is in progress."""
        with self._lock:
            if self._is_busy:
                return False
            self._id, self._conversation = new_id(), Conversation()
            return True

    def update_feedback(
        self,
        turn_id: str,
        change: Callable[[Feedback | None], Feedback | None],
        save: Callable[[Feedback | None], None],
    ) -> Feedback | None:
        """Change a turn's feedback and `save` it if it differs, even while another turn is in progress.

        Raises:
            UserError: no_such_turn.
        """
        with self._lock:
            try:
                before = self._conversation.get_turn(turn_id).feedback
            except KeyError as error:
                raise UserError("no_such_turn") from error
            feedback = change(before)
            if feedback != before:
                save(feedback)
                self._conversation = self._conversation.with_feedback(turn_id, feedback)
            return feedback
