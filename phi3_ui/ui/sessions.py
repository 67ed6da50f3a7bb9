"""What each open page holds on the server: its chats, which one is shown, which model is picked.

Keyed by Gradio's session hash, which a page makes for itself; dropped when the page closes.
"""

import itertools
import threading
from dataclasses import dataclass, field

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.service import RunningTurn, TurnState
from phi3_ui.store.cards import ModelEntry

_numbers = itertools.count(1)


@dataclass
class Chat:
    """One conversation of one page; `running` and `state` are those of the turn under way, if there is one."""

    number: int = field(default_factory=lambda: next(_numbers))
    conversation: Conversation = field(default_factory=Conversation)
    running: RunningTurn | None = None
    state: TurnState | None = None

    def keep(self, answer: Answer) -> None:
        """Take a turn's answer, however it ended and whoever still looks."""
        self.conversation = self.conversation.answered(answer)
        self.running = self.state = None  # from here on, a late state is not this chat's any more


@dataclass
class Session:
    """One page. `picked` is what its picker holds: a model id, or `name@alias`; `entry` is the model that it means.

    `templates` are those picked here, by model id; `promotion` waits to be confirmed: name, version, alias;
    `off` names the controls that are shown as off.
    """

    language: str
    picked: str | None = None
    entry: ModelEntry | None = None
    templates: dict[str, str] = field(default_factory=dict)
    promotion: tuple[str, str, str] | None = None
    off: frozenset[str] = frozenset()
    chats: list[Chat] = field(default_factory=lambda: [Chat()])
    current: Chat = field(init=False)

    def __post_init__(self) -> None:
        self.current = self.chats[0]

    @property
    def model_id(self) -> str | None:
        return self.entry.model_id if self.entry else None

    def new_chat(self) -> None:
        """Show an empty chat: a new one, unless the newest is still empty."""
        if self.chats[0].conversation.turns:
            self.chats.insert(0, Chat())
        self.current = self.chats[0]

    def open(self, number: int) -> None:
        self.current = next((chat for chat in self.chats if chat.number == number), self.current)


class Sessions:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def of(self, key: str, language: str) -> Session:
        """The session of a page; a fresh one for a page not seen before."""
        with self._lock:
            return self._sessions.setdefault(key, Session(language))

    def close(self, key: str) -> None:
        """The page is gone: stop what it asked for, forget the rest."""
        with self._lock:
            session = self._sessions.pop(key, None)
        for chat in session.chats if session else []:
            if chat.running:
                chat.running.stop()
