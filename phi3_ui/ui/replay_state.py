"""One replay on a page: the questions of a chat, asked again in a separate chat."""

import threading

from phi3_ui.chat.conversation import Conversation
from phi3_ui.errors import UserError
from phi3_ui.ui.chat_state import Chat


class Replay:
    """A replay from its start to `finish`. Thread-safe; the page that replaces the one it began on takes over the replay."""

    def __init__(self, old: Conversation, model_name: str) -> None:
        self.old = old
        """The conversation whose questions are asked again."""
        self.model_name = model_name
        """Display name of the model that answers them."""
        self.chat = Chat()
        """The chat that gets the new answers."""
        self._lock = threading.Lock()
        self._is_stopped = False
        self._finished = threading.Event()
        self._error: UserError | None = None

    def is_stopped(self) -> bool:
        """Whether it was asked to stop before its end."""
        return self._is_stopped

    @property
    def is_finished(self) -> bool:
        """Whether no more questions will be asked."""
        return self._finished.is_set()

    @property
    def error(self) -> UserError | None:
        """What ended it before its last question, other than a request to stop."""
        return self._error

    def stop(self) -> None:
        """Stop the answer in progress and ask no further question. Do nothing once finished."""
        with self._lock:
            if self.is_finished:
                return
            self._is_stopped = True
        self.chat.stop()

    def finish(self, error: UserError | None = None) -> None:
        """Record that no more questions will be asked."""
        with self._lock:
            self._error = error
            self._finished.set()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for the end; return whether it was reached."""
        return self._finished.wait(seconds)
