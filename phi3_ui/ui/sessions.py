"""What each open page holds on the server: whose it is, which chat is shown, which model is picked.

Keyed by Gradio's session hash, which a page makes for itself, and by who is logged in; dropped when the page closes.
"""

import hashlib
import re
import secrets
import threading
from dataclasses import dataclass, field

from phi3_ui.chat.conversation import Answer, Conversation, new_id
from phi3_ui.chat.running_turn import RunningTurn, TurnSnapshot
from phi3_ui.store.conversations.turn_writer import TurnWriter
from phi3_ui.store.registry.cards import ModelEntry

_TOKEN = re.compile(r"[\w-]{22,128}", re.ASCII)
_HELD = 20  # chats of one page; the others are opened again from the store


@dataclass
class Chat:
    """One conversation of one page; `running` and `state` are those of the turn under way, if there is one.

    `editing` is the turn whose question is in the message box, to be asked otherwise, and `draft` what stood there before;
    `stopped`: no more is to be replayed.
    """

    id: str = field(default_factory=new_id)
    conversation: Conversation = field(default_factory=Conversation)
    running: RunningTurn | None = None
    state: TurnSnapshot | None = None
    editing: str | None = None
    draft: str = ""
    stopped: bool = False

    def end_edit(self) -> str | None:
        """What belongs into the message box again, now that no question is edited any more; None if none was."""
        if self.editing is None:
            return None
        draft, self.editing, self.draft = self.draft, None, ""
        return draft

    def keep(self, turn_id: str, kept: TurnWriter, answer: Answer) -> None:
        """Take a turn's answer, however it ended and whoever still looks."""
        try:
            kept.finish(answer)
        finally:
            self.conversation = self.conversation.with_answer(answer, turn_id)
            self.running = self.state = None  # from here on, a late state is not this chat's any more


@dataclass
class Session:
    """One page, of one `person`. `picked` is what its picker holds: a model id, or `name@alias`; `entry` is the model that it means.

    `templates` are those picked here, by model id; `promotion` waits to be confirmed: name, version, alias;
    `off` names the controls that are shown as off; `removed` is the chat whose deletion may be taken back, with its title;
    `rated` is the turn whose feedback may be given a comment; `listed` is how many chats are listed;
    `replay` is the chat that is made by asking another's questions again, while it is; `charts`: those of usage are open;
    `typed` is what stood in the message box when a button of render/actions.py was last pressed;
    `linked`: what is shown has links into MLflow; `arrived`: the page has said what its tab held before;
    `is_setting_up`: the chat is shown while other models are still being added.
    """

    language: str
    person: str = field(default_factory=lambda: visitor(secrets.token_urlsafe(24)))
    login: str | None = None
    picked: str | None = None
    entry: ModelEntry | None = None
    templates: dict[str, str] = field(default_factory=dict)
    promotion: tuple[str, str, str] | None = None
    off: frozenset[str] = frozenset()
    query: str = ""
    listed: int = 100
    removed: tuple[str, str] | None = None
    rated: str | None = None
    replay: Chat | None = None
    charts: bool = False
    typed: str = ""
    linked: bool = False
    arrived: bool = False
    is_setting_up: bool = False
    chats: list[Chat] = field(default_factory=lambda: [Chat()])
    current: Chat = field(init=False)

    def __post_init__(self) -> None:
        self.current = self.chats[0]

    @property
    def model_id(self) -> str | None:
        return self.entry.model_id if self.entry else None

    def arrive(self, token: str | None) -> None:
        """The browser says which of the visitors without a login it is, by a secret that only it has."""
        if self.login is None and token and _TOKEN.fullmatch(token):
            self.person = visitor(token)

    def new_chat(self) -> None:
        """Show an empty chat: a new one, unless there is an empty one."""
        empty = next((chat for chat in self.chats if not chat.conversation.tree), None)
        self.show(empty or Chat())

    def show(self, chat: Chat) -> None:
        self.current = chat
        self.chats = [chat, *(other for other in self.chats if other is not chat)]
        self.chats = [*self.chats[:_HELD], *(other for other in self.chats[_HELD:] if other.running)]

    def add(self, chat: Chat) -> None:
        """Hold it behind the one that is shown."""
        shown = self.current
        self.show(chat)
        self.show(shown)

    def held(self, conversation: str) -> Chat | None:
        return next((chat for chat in self.chats if chat.id == conversation), None)

    def running(self) -> list[RunningTurn]:
        chats = [*self.chats, *([self.replay] if self.replay else [])]
        return [chat.running for chat in chats if chat.running]

    def stop_replay(self) -> None:
        if self.replay:
            self.replay.stopped = True
            if self.replay.running:
                self.replay.running.stop()

    def forget(self, conversation: str) -> None:
        """Its chat was deleted: stop it, and show another."""
        if self.replay and self.replay.id == conversation:
            self.stop_replay()
        if chat := self.held(conversation):
            if chat.running:
                chat.running.stop()
            self.chats = [other for other in self.chats if other is not chat] or [Chat()]
            if self.current is chat:
                self.new_chat()


def visitor(token: str) -> str:
    """What a visitor is called in the store: nobody who reads it there can tell the secret of the browser."""
    return f"visitor-{hashlib.sha256(f'phi3-chat {token}'.encode()).hexdigest()[:24]}"


class Sessions:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[tuple[str, str | None], Session] = {}

    def of(self, key: str, language: str, login: str | None = None) -> Session:
        """The session of a page; a fresh one for a page not seen before, or of somebody else."""
        with self._lock:
            found = self._sessions.get((key, login))
            if found is None:
                found = Session(language, login=login)
                if login is not None:
                    found.person = login
                self._sessions[key, login] = found
            return found

    def close(self, key: str) -> None:
        """The page is gone: stop what it asked for, forget the rest."""
        with self._lock:
            gone = [self._sessions.pop(held) for held in [*self._sessions] if held[0] == key]
        for session in gone:
            for turn in session.running():
                turn.stop()

    def stop_all(self, seconds: float) -> None:
        """The app ends: stop every answer, and give each the time to be kept."""
        with self._lock:
            running = [turn for session in self._sessions.values() for turn in session.running()]
        for turn in running:
            turn.stop()
        for turn in running:
            turn.wait(seconds)
