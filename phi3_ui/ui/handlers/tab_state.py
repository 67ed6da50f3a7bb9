"""Restore a tab's state from before a reload, as saved by static/tab_state.js."""

import logging
import re

from phi3_ui.arena.blindness import is_comparison
from phi3_ui.chat.conversation import Conversation
from phi3_ui.chat.draft import Draft
from phi3_ui.errors import UserError
from phi3_ui.ui.chat_state import Chat
from phi3_ui.ui.comparison_state import restore_comparison
from phi3_ui.ui.handlers.context_meter import MAX_DRAFT
from phi3_ui.ui.handlers.conversations import ConversationController
from phi3_ui.ui.handlers.settings import restore_settings
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.services import Services
from phi3_ui.ui.session_values import RatedTurn
from phi3_ui.ui.sessions import Session

logger = logging.getLogger(__name__)

_TAB = re.compile(r"[0-9a-f]{32}", re.ASCII)
_TEXTS = {"draft", "taken", "comment"}  # the others are ids and a model key
_MAX_ID = 1000  # characters


def find_tab(tab_state: object) -> str | None:
    """Return the tab's secret, which is the same for every page that it shows."""
    tab = tab_state.get("tab") if isinstance(tab_state, dict) else None
    return tab if isinstance(tab, str) and _TAB.fullmatch(tab) else None


class TabStateRestorer:
    """Restores the chat, the model, the settings, the unsent message and the unsaved comment, once per session.

    Stops the answer that the user stopped while the connection was lost.
    """

    def __init__(self, page: Page, services: Services, conversations: ConversationController) -> None:
        self._page = page
        self._history = services.conversations.history
        self._conversations = conversations

    def restore(self, session: Session, tab_state: object) -> Updates:
        """Return updates that restore `tab_state`, which comes from the browser and may contain anything."""
        if not session.claim_restore():
            return {}
        if not isinstance(tab_state, dict) or tab_state.get("login") != (session.login or ""):
            return {}
        texts = {
            name: value
            for name, value in tab_state.items()
            if isinstance(value, str) and len(value) <= (MAX_DRAFT if name in _TEXTS else _MAX_ID)
        }
        if chat_id := texts.get("chat"):
            self._restore_chat(session, chat_id, texts)
        if key := texts.get("model"):
            session.model.select(key)
        updates = restore_settings(self._page, tab_state.get("settings"))
        draft = texts.get("draft", "")
        if draft == texts.get("taken") and _is_last_question(draft, session.current.conversation):
            draft = ""
        system = updates.get(self._page.settings.system)
        session.set_draft(Draft(draft, (), system["value"] if system else ""))  # the context meter counts it
        if not draft:
            return updates
        return {**updates, self._page.composer.message: draft}

    def _restore_chat(self, session: Session, chat_id: str, texts: dict[str, str]) -> None:
        if session.comparison and session.comparison.id == chat_id:
            return  # handed over from the page that this one replaces
        try:
            chat = session.find_chat(chat_id)
            if chat is None:
                stored = self._history.load(session.user_id, chat_id)
                if is_comparison(stored):
                    session.set_comparison(restore_comparison(chat_id, stored))
                    session.panels.compare_open = True
                    return
                chat = Chat(chat_id, stored)
        except UserError as error:
            logger.info("Chat %s is not restored: %s", chat_id[:32], error)
            return
        session.show(chat)
        if (stopped := texts.get("stopped")) and stopped == chat.conversation.leaf:
            chat.stop()
        if rated := texts.get("rated"):
            session.panels.rated = RatedTurn(chat, rated)
            self._conversations.save_comment(session, texts.get("comment"))


def _is_last_question(text: str, conversation: Conversation) -> bool:
    """Whether `text` was already asked, although the connection was lost before the message box was cleared."""
    return bool(conversation.turns) and conversation.turns[-1].question == text
