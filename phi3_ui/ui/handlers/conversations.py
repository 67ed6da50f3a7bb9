"""The chats of a page: the shown chat, the user's chat list, and the actions on both."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import gradio as gr

from phi3_ui.arena.blindness import has_hidden_round, is_comparison
from phi3_ui.chat.conversation import Conversation, Feedback
from phi3_ui.errors import UserError
from phi3_ui.ui.chat_state import Chat
from phi3_ui.ui.comparison_state import Comparison, restore_comparison
from phi3_ui.ui.handlers.model_picker import ModelPicker
from phi3_ui.ui.handlers.settings import restore_settings_of_chat
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.chat_footer import render_footer
from phi3_ui.ui.render.chat_list import ChatListView, render_chat_list
from phi3_ui.ui.render.messages import RunningAnswer, chat_messages, encode_messages, running_message
from phi3_ui.ui.render.notices import render_warning
from phi3_ui.ui.render.usage_panel import render_usage
from phi3_ui.ui.services import Services
from phi3_ui.ui.session_values import PendingDelete, RatedTurn
from phi3_ui.ui.sessions import Session

logger = logging.getLogger(__name__)

_MAX_COMMENT = 2000  # characters


@dataclass(frozen=True)
class Action:
    """A click on an action button of templates/macros.html."""

    name: str
    value: str
    """What it acts on: the id of a turn or a chat."""
    draft: str = ""
    """The composer's content: the attached files and the text, in the form of a question."""


class ConversationController:
    """Shows chats and changes them."""

    def __init__(self, page: Page, services: Services, models: ModelPicker) -> None:
        self._page = page
        self._store = services.conversations
        self._history = services.conversations.history
        self._locator = services.locator
        self._manages = services.settings.manage
        self._models = models
        self._mlflow = services.mlflow
        self.actions: dict[str, Callable[[Session, Action], Updates]] = {
            "open": self._open,
            "pin": lambda session, action: self._pin(session, action.value, True),
            "unpin": lambda session, action: self._pin(session, action.value, False),
            "delete": self._delete,
            "restore": self._restore,
            "show": self._show_branch,
            "undo": self._undo,
            "good": lambda session, action: self._rate(session, action.value, True),
            "bad": lambda session, action: self._rate(session, action.value, False),
        }
        """By name of the action button. Other controllers add theirs."""
        self.show_comparison: Callable[[Session, Comparison], Updates] = lambda _session, _comparison: {}
        """Shows a comparison. Only its own view may, since it hides the models until the vote."""

    def perform(self, session: Session, action: Action) -> Updates:
        """Perform an action; an unknown one does nothing.

        Raises:
            UserError: The action is not possible.
        """
        handler = self.actions.get(action.name)
        return handler(session, action) if handler else {}

    # Drawing

    def show_chat(self, session: Session) -> Updates:
        """Update everything that depends on the shown chat, and close any view that covers it."""
        page, panels = self._page, session.panels
        panels.replay_open = panels.usage_open = panels.compare_open = False
        panels.ratings = panels.evaluations = None
        covers = (page.replay.head, page.compare.view, page.ratings.view, page.evaluations.view, page.usage.overview)
        return {**self.redraw(session), **dict.fromkeys(covers, "")}

    def redraw(self, session: Session) -> Updates:
        """Update everything that depends on the shown chat; a view that covers it stays open."""
        page = self._page
        session.panels.rated = None
        session.panels.awaits_answer = session.current.is_busy
        return {
            **self.draw_chat(session),
            **self.show_usage(session),
            **self._models.show_context(session),
            **self.list_chats(session),
            **self._show_footer(session),
            **self.show_buttons(session),
            page.chat.comment_group: gr.Group(visible=False),
            page.chat.warning: self._render_warning(session),
        }

    def draw_chat(self, session: Session) -> Updates:
        """Draw the messages of the shown chat."""
        chat, language, link = session.current, session.language, self._mlflow.link_turn
        running = _running_answer(chat)
        messages = chat_messages(
            language,
            chat.conversation,
            running,
            lambda turn: link(language, turn.id),
            self._models.meter.file_tokens.count,
        )
        return {self._page.chat.messages: encode_messages(messages), self._page.chat.running: None}

    def draw_running(self, session: Session) -> Updates:
        """Draw only the answer in progress, at a cost that does not grow with the chat."""
        chat = session.current
        if (running := _running_answer(chat)) is None:
            return {}
        message = running_message(session.language, chat.conversation, running)
        return {self._page.chat.running: message} if message else {}

    def show_usage(self, session: Session) -> Updates:
        """Show the token usage of the shown chat."""
        chat, language = session.current, session.language
        usage = render_usage(
            language,
            chat.conversation,
            answers=len(self._history.list_turn_metrics(session.user_id)),
            trace=lambda turn: self._mlflow.link_turn(language, turn.id),
            chat_link=self._mlflow.render_chat_link(language, chat.id),
            evaluations_off="" if self._manages else session.explain(UserError("evaluations_disabled")),
        )
        return {self._page.usage.panel: usage}

    def show_buttons(self, session: Session) -> Updates:
        """Set the composer's state: Send, or Stop while an answer to the shown chat is in progress."""
        chat = session.current
        return {
            self._page.composer.tools: {"busy": chat.is_busy, "asked": chat.conversation.leaf or "", "chat": chat.id}
        }

    def list_chats(self, session: Session) -> Updates:
        """List the user's chats that match the search."""
        state, pending, rated = session.chat_list, session.chat_list.pending_delete, session.panels.rated
        compared = session.comparison if session.panels.compare_open else None
        view = ChatListView(
            shown=compared.id if compared and compared.rounds else session.current.id,
            start=state.start,
            deleted=(pending.chat_id, pending.title) if pending else None,
            query=state.query.strip(),
            unreadable=self._history.count_unreadable(session.user_id),
            notice=session.explain(notice) if (notice := self._locator.notice) else "",
            tab_state={
                "login": session.login or "",
                "model": session.model.key or "",
                "rated": rated.turn_id if rated else "",
            },
        )
        found = self._history.list_conversations(session.user_id, state.query)
        rendered = render_chat_list(session.language, found, view, datetime.now())
        return {self._page.conversations.chat_list: rendered}

    def refresh(self, session: Session) -> Updates:
        """Refresh the warning and the chat list, which other pages and the store may change."""
        pending = session.chat_list.pending_delete
        if pending and not self._history.is_restorable(session.user_id, pending.chat_id):
            session.clear_pending_delete(pending)
        # Sent even if unchanged: responses overtake each other, so the page may show an older list.
        shown = {**self.list_chats(session), **self._show_footer(session)}
        return {**shown, self._page.chat.warning: self._render_warning(session)}

    def _show_footer(self, session: Session) -> Updates:
        """Show who is logged in, and a link to their chats in MLflow."""
        rendered = render_footer(session.language, session.login, self._mlflow.link_experiment())
        return {self._page.conversations.footer: rendered}

    def _render_warning(self, session: Session) -> str:
        warning = self._store.recorder.warning
        return render_warning(session.language, session.explain(warning)) if warning else ""

    # Chat list

    def is_deleted(self, session: Session, chat: Chat) -> bool:
        """Whether the chat was deleted, perhaps on another page: none of it may be sent or stored again."""
        return self._history.is_deleted(session.user_id, chat.id)

    def switch_to(self, session: Session, chat: Chat | None) -> Updates:
        """Show another chat, by default an empty one. Stop a replay or comparison in progress."""
        session.stop_replay()
        if session.comparison:
            session.comparison.stop()
        if chat is None:
            session.show_new()
        else:
            session.show(chat)
        return self.show_chat(session)

    def _open(self, session: Session, action: Action) -> Updates:
        chat_id = action.value
        if session.comparison and session.comparison.id == chat_id:
            return self.show_comparison(session, session.comparison)
        chat = session.find_chat(chat_id)
        if chat is None:
            stored = self._history.load(session.user_id, chat_id)
            if is_comparison(stored):
                return self.show_comparison(session, restore_comparison(chat_id, stored))
            chat = Chat(chat_id, stored)
        elif not chat.is_busy:
            self._refresh_chat(session, chat)
        return {**self.switch_to(session, chat), **restore_settings_of_chat(self._page, chat.conversation)}

    def load(self, session: Session, chat_id: str) -> Conversation:
        """Return a chat of the user, from this page or from the store.

        Raises:
            UserError: vote_first while the chat hides the models of a blind round; those of History.load.
        """
        if chat := session.find_chat(chat_id):
            return chat.conversation
        conversation = self._history.load(session.user_id, chat_id)
        if has_hidden_round(conversation, self._history.list_verdicts(session.user_id, chat_id)):
            raise UserError("vote_first")
        return conversation

    def _refresh_chat(self, session: Session, chat: Chat) -> None:
        """Load what other pages have added. A chat that changes during the load keeps its own turns."""
        expected = chat.conversation
        try:
            chat.refresh(expected, self._history.load(session.user_id, chat.id))
        except UserError as error:  # the store does not respond, or the chat has not been stored yet
            logger.info("Chat %s is not refreshed from the store: %s", chat.id, error)

    def rename(self, session: Session, chat_id: str, title: str) -> Updates:
        """Give a chat another title; an empty one restores the first question. Raises UserError("no_such_chat")."""
        self._history.rename(session.user_id, chat_id, title)
        return self.list_chats(session)

    def _pin(self, session: Session, chat_id: str, is_pinned: bool) -> Updates:
        self._history.set_pinned(session.user_id, chat_id, is_pinned)
        return self.list_chats(session)

    def _delete(self, session: Session, action: Action) -> Updates:
        chat_id = action.value
        title = self._history.get_title(session.user_id, chat_id)
        self._history.delete(session.user_id, chat_id)
        was_shown = session.current.id == chat_id
        session.set_pending_delete(PendingDelete(chat_id, title, was_shown))
        session.forget(chat_id)
        return self.show_chat(session) if was_shown else self.list_chats(session)

    def _restore(self, session: Session, action: Action) -> Updates:
        pending, current = session.chat_list.pending_delete, session.current
        is_restored = self._history.restore(session.user_id, action.value)
        session.set_pending_delete(None)
        if not is_restored:
            raise UserError("no_such_chat")
        # Reopen it only if it was shown when it was deleted, and nothing else was begun since.
        was_shown = pending is not None and pending.chat_id == action.value and pending.was_shown
        is_untouched = not current.conversation.tree and not current.is_busy
        return self._open(session, action) if was_shown and is_untouched else self.list_chats(session)

    # Turns of the shown chat

    @staticmethod
    def require_turn(chat: Chat, turn_id: str) -> None:
        """Raise UserError("no_such_turn") unless the chat has this turn."""
        _require_turn(chat.conversation, turn_id)

    def _show_branch(self, session: Session, action: Action) -> Updates:
        def change(conversation: Conversation) -> Conversation:
            _require_turn(conversation, action.value)
            return conversation.with_branch_of(action.value)

        updates = self._change_branch(session, change)
        turns = session.current.conversation.turns
        # After Redo, the message box may still hold the question that Undo put there.
        is_redone = bool(turns) and action.draft.strip() == turns[-1].question.strip()
        return {**updates, **self._set_draft(session, "")} if is_redone else updates

    def _undo(self, session: Session, action: Action) -> Updates:
        hidden: list[str] = []

        def change(conversation: Conversation) -> Conversation:
            _require_turn(conversation, action.value)
            if not conversation.turns or conversation.turns[-1].id != action.value:
                return conversation  # a second click on the same button
            hidden.append(conversation.turns[-1].question)
            return conversation.without_last_turn()

        updates = self._change_branch(session, change)
        # A different draft is kept; Redo shows the question again.
        return updates if action.draft.strip() or not hidden else {**updates, **self._set_draft(session, hidden[0])}

    def _set_draft(self, session: Session, question: str) -> Updates:
        """Put a question into the composer: its attached files and its text."""
        tools = self._page.composer.tools
        return {tools: {**self.show_buttons(session)[tools], "draft": question}}

    def _change_branch(self, session: Session, change: Callable[[Conversation], Conversation]) -> Updates:
        chat = session.current
        chat.apply(change, lambda shown: self._history.save_shown_branch(session.user_id, chat.id, shown))
        return self.show_chat(session)

    # Feedback

    def _rate(self, session: Session, turn_id: str, good: bool) -> Updates:
        """Rate an answer. Clicking the same thumb again clears the rating; the other thumb keeps the comment."""

        def change(before: Feedback | None) -> Feedback | None:
            if before and before.good == good:
                return None
            return Feedback(good, before.comment if before else "")

        chat = session.current
        feedback = self._update_feedback(session, RatedTurn(chat, turn_id), change)
        session.panels.rated = RatedTurn(chat, turn_id) if feedback else None
        return {
            **self.draw_chat(session),
            **self.list_chats(session),
            self._page.chat.comment_group: gr.Group(visible=feedback is not None),
            self._page.chat.comment: feedback.comment if feedback else "",
        }

    def finish_comment(self, session: Session, text: str | None) -> Updates:
        """Save the comment on the answer rated last, even an empty one, and close its field."""
        self._set_comment(session, (text or "").strip()[:_MAX_COMMENT])
        return self.close_comment(session)

    def close_comment(self, session: Session) -> Updates:
        """Close the field, since the page moves on from the rated answer."""
        session.panels.rated = None
        return {self._page.chat.comment_group: gr.Group(visible=False)}

    def save_comment(self, session: Session, text: str | None) -> None:
        """Save the typed comment when the user moves on without pressing Save."""
        if comment := (text or "").strip()[:_MAX_COMMENT]:
            self._set_comment(session, comment)

    def _set_comment(self, session: Session, comment: str) -> None:
        rated = session.panels.rated
        if rated and any(turn.id == rated.turn_id for turn in rated.chat.conversation.tree):
            self._update_feedback(session, rated, lambda before: before and Feedback(before.good, comment))

    def _update_feedback(
        self, session: Session, rated: RatedTurn, change: Callable[[Feedback | None], Feedback | None]
    ) -> Feedback | None:
        def save(feedback: Feedback | None) -> None:
            self._store.recorder.set_feedback(session.user_id, rated.chat.id, rated.turn_id, feedback)

        return rated.chat.update_feedback(rated.turn_id, change, save)


def _running_answer(chat: Chat) -> RunningAnswer | None:
    turn = chat.running
    return RunningAnswer(chat.progress, turn.model_name) if turn else None


def _require_turn(conversation: Conversation, turn_id: str) -> None:
    try:
        conversation.get_turn(turn_id)
    except KeyError as error:
        raise UserError("no_such_turn") from error
