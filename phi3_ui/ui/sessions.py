"""The server-side state of each open page: its user, its chats and its selected model.

Gradio runs handlers in a thread pool, so several threads work on one page's state: every class here changes its fields
under its own lock, through its methods, and nothing else writes them. open_pages.py maps pages to sessions.
"""

import hashlib
import re
import secrets
import threading
from dataclasses import replace

from phi3_ui.accounts.quotas import Person
from phi3_ui.chat.conversation import Conversation
from phi3_ui.chat.draft import Draft
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.chat.sampling_params import SAMPLING_PARAMS
from phi3_ui.errors import UserError
from phi3_ui.i18n.hide_paths import hide_paths
from phi3_ui.i18n.translate import tr, tr_error
from phi3_ui.ui.chat_state import Chat
from phi3_ui.ui.comparison_state import Comparison
from phi3_ui.ui.page_connection import PageConnection
from phi3_ui.ui.page_model import PageModel
from phi3_ui.ui.replay_state import Replay
from phi3_ui.ui.session_values import ChatListState, PanelState, PendingDelete, Promotion

_TOKEN = re.compile(r"[\w-]{22,128}", re.ASCII)
_PARAM_LABELS = {param.name: param.label_key for param in SAMPLING_PARAMS}
_MAX_CHATS = 20  # kept per page; the others are loaded from the store on demand
_MAX_QUERY = 200  # characters; every time the list is drawn, each word is searched for in all texts


class Session:
    """The state of one page."""

    def __init__(self, language: str, login: str | None = None, hides_paths: bool = True) -> None:
        """`hides_paths`: hide the server's folders from this user."""
        self.language = language
        self.login = login
        self._hides_paths = hides_paths
        self._address = ""
        self._gpu_token: str | None = None
        self.model = PageModel()
        self.connection = PageConnection()
        self.panels = PanelState()
        self._lock = threading.RLock()
        self._user_id = login if login is not None else visitor_id(secrets.token_urlsafe(24))
        self._chat_list = ChatListState()
        self._current = Chat()
        self._chats: tuple[Chat, ...] = (self._current,)
        self._replay: Replay | None = None
        self._comparison: Comparison | None = None
        self._draft = Draft()
        self._is_restored = False
        self.restoring = threading.Lock()
        """Held while the page is restored and drawn."""
        self._is_setting_up = False
        self._is_closed = False

    def explain(self, error: UserError) -> str:
        """Return the error in the page's language, with the page's labels of the settings."""
        if error.code == "invalid_param" and (label := _PARAM_LABELS.get(str(error.values["name"]))):
            error = UserError(error.code, **{**error.values, "name": tr(self.language, label)})
        return self.redact(tr_error(self.language, error))

    def redact(self, text: str) -> str:
        """Return a text as the user may read it: without the server's folders, if they are hidden."""
        return hide_paths(text) if self._hides_paths else text

    # User

    @property
    def user_id(self) -> str:
        """The login, or the visitor id of this browser."""
        return self._user_id

    @property
    def person(self) -> Person:
        """Whose limits apply. A visitor without a login can change identity, so the address counts, too."""
        return Person(self._user_id, "" if self.login is not None else self._address)

    def set_address(self, address: str) -> None:
        """Set the address of the page's last event."""
        with self._lock:
            self._address = address

    @property
    def gpu_token(self) -> str | None:
        """The last `gpu_token` for a ChatRequest that came with one of the page's events."""
        return self._gpu_token

    def set_gpu_token(self, token: str | None) -> None:
        """Keep the token that came with an event; most events carry none."""
        if token:
            with self._lock:
                self._gpu_token = token

    def identify(self, token: str | None) -> None:
        """Identify a visitor without a login by the secret stored in their browser."""
        if self.login is None and token and _TOKEN.fullmatch(token):
            self._user_id = visitor_id(token)

    @property
    def is_restored(self) -> bool:
        """Whether the page has reported what its tab held before it was reloaded."""
        return self._is_restored

    def claim_restore(self) -> bool:
        """Return True to the first caller only: the one that restores the tab's state."""
        with self._lock:
            claimed, self._is_restored = not self._is_restored, True
            return claimed

    def set_setting_up(self, is_setting_up: bool) -> bool:
        """Record whether models are still being added while the chat is shown. Return whether they were at the last call."""
        with self._lock:
            previous, self._is_setting_up = self._is_setting_up, is_setting_up
            return previous

    # Model

    def uses(self, model_id: str) -> bool:
        """Whether the page would ask this model next: it is selected, or a side of the open comparison."""
        with self._lock:
            sides = self._comparison.contestants if self._comparison else ()
            return model_id in (self.model.id, *(side.model_id for side in sides))

    def take_promotion(self) -> Promotion | None:
        """Return the registry change awaiting confirmation, and clear it."""
        with self._lock:
            promotion, self.panels.promotion = self.panels.promotion, None
            return promotion

    # Chat list

    @property
    def chat_list(self) -> ChatListState:
        """The state of the chat list."""
        return self._chat_list

    def search_chats(self, query: str) -> None:
        """List only the chats that match."""
        with self._lock:
            self._chat_list = replace(self._chat_list, query=query[:_MAX_QUERY], start=0)

    def list_from(self, start: int) -> None:
        """List the chats from this position on."""
        with self._lock:
            self._chat_list = replace(self._chat_list, start=start)

    def set_pending_delete(self, pending: PendingDelete | None) -> None:
        """Set the deletion that can be undone."""
        with self._lock:
            self._chat_list = replace(self._chat_list, pending_delete=pending)

    def clear_pending_delete(self, pending: PendingDelete) -> None:
        """Clear the deletion that can be undone, unless another one has replaced it."""
        with self._lock:
            if self._chat_list.pending_delete is pending:
                self._chat_list = replace(self._chat_list, pending_delete=None)

    # Chats

    @property
    def current(self) -> Chat:
        """The chat that is shown."""
        return self._current

    @property
    def chats(self) -> tuple[Chat, ...]:
        """The chats kept by this page, most recently shown first."""
        return self._chats

    def find_chat(self, chat_id: str) -> Chat | None:
        """Return the chat with this id, if the page keeps it."""
        return next((chat for chat in self._chats if chat.id == chat_id), None)

    def show(self, chat: Chat) -> Chat:
        """Show a chat, or the one with the same id that the page already keeps. Return the one shown."""
        with self._lock:
            chat = self.find_chat(chat.id) or chat
            self._current = chat
            self._keep([chat, *(other for other in self._chats if other is not chat)])
            return chat

    def show_new(self) -> None:
        """Show an empty chat: a new one, unless the page keeps an empty one."""
        with self._lock:
            empty = next((chat for chat in self._chats if not chat.conversation.tree and not chat.is_busy), None)
            self.show(empty or Chat())

    def add(self, chat: Chat) -> None:
        """Keep a chat without showing it."""
        with self._lock:
            if self.find_chat(chat.id) is None:
                self._keep([self._chats[0], chat, *self._chats[1:]])

    def forget(self, chat_id: str) -> None:
        """Stop and drop a chat that was deleted; if it was shown, show another one."""
        with self._lock:
            if self._replay and self._replay.chat.id == chat_id:
                self._replay.stop()
            if self._comparison and self._comparison.id == chat_id:
                self._comparison.stop()
                self._comparison = None
            if (chat := self.find_chat(chat_id)) is None:
                return
            chat.stop()
            self._chats = tuple(other for other in self._chats if other is not chat) or (Chat(),)
            if self._current is chat:
                self.show_new()

    def _keep(self, chats: list[Chat]) -> None:
        self._chats = (*chats[:_MAX_CHATS], *(chat for chat in chats[_MAX_CHATS:] if chat.is_busy))

    # Draft

    @property
    def draft(self) -> Draft:
        """The last known content of the composer."""
        return self._draft

    def set_draft(self, draft: Draft) -> None:
        """Record that the composer now holds `draft`."""
        with self._lock:
            self._draft = draft

    def replace_draft(self, draft: Draft, replacement: Draft) -> None:
        """Record that the composer now holds `replacement`, unless its draft is no longer `draft`."""
        with self._lock:
            if self._draft is draft:
                self._draft = replacement

    # Replay

    @property
    def replay(self) -> Replay | None:
        """The last replay, which may be in progress."""
        return self._replay

    def try_start_replay(self, old: Conversation, model_name: str) -> Replay | None:
        """Return a new replay of `old`; None while another one is in progress, or if the page has closed."""
        with self._lock:
            if self._is_closed or (self._replay and not self._replay.is_finished):
                return None
            self._replay = Replay(old, model_name)
            return self._replay

    def stop_replay(self) -> None:
        """Stop the replay in progress."""
        if replay := self._replay:
            replay.stop()

    # Comparison

    @property
    def comparison(self) -> Comparison | None:
        """The comparison that the page shows or showed last; one of its rounds may be in progress."""
        return self._comparison

    def set_comparison(self, comparison: Comparison | None) -> None:
        """Set the comparison, or none; stop the previous one."""
        with self._lock:
            before, self._comparison = self._comparison, comparison
        if before and before is not comparison:
            before.stop()
        if comparison and self._is_closed:
            comparison.stop()

    # Handover to a page that replaces this one, and closing

    def hand_over(self, successor: "Session") -> None:
        """Move the chats, with any answers in progress, the replay and the comparison to the page that replaces this one."""
        with self._lock:
            self.connection.lost.set()
            chats, current, self._current = self._chats, self._current, Chat()
            self._chats = (self._current,)
            replay, self._replay = self._replay, None
            comparison, self._comparison = self._comparison, None
            successor.panels.replay_open = self.panels.replay_open
            successor.panels.compare_open = self.panels.compare_open
            successor.model.take_templates(self.model)
            successor._receive(chats, current, replay, comparison)

    def _receive(
        self, chats: tuple[Chat, ...], current: Chat, replay: Replay | None, comparison: Comparison | None
    ) -> None:
        with self._lock:
            self._chats, self._current, self._replay, self._comparison = chats, current, replay, comparison

    def is_closed(self) -> bool:
        """Whether the page has closed: nothing more may be started."""
        return self._is_closed

    def close(self) -> list[RunningTurn]:
        """Stop everything and refuse to start anything more. Return the turns that are still ending."""
        with self._lock:
            self._is_closed = True
        return self.stop_answers()

    def stop_answers(self) -> list[RunningTurn]:
        """Stop all answers in progress. Return the turns that are still ending."""
        with self._lock:
            self.stop_replay()
            chats = [*self._chats, *([self._replay.chat] if self._replay else [])]
            if self._comparison:
                self._comparison.stop()
                chats += self._comparison.chats
        for chat in chats:
            chat.stop()
        return [running for chat in chats if (running := chat.running)]


def visitor_id(token: str) -> str:
    """Return the id of a visitor in the store, a hash: readers of the store must not learn the browser's secret."""
    return f"visitor-{hashlib.sha256(f'phi3-chat {token}'.encode()).hexdigest()[:24]}"
