"""The chats of a page: which one is shown, the list of a person's own, and what can be done to them. No HTML."""

import contextlib
from collections.abc import Callable
from datetime import datetime

import gradio as gr

from phi3_ui.chat.conversation import Conversation, Feedback
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr_error
from phi3_ui.ui.handlers.model_picker import ModelPicker
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.chat_list import ChatListView, render_chat_list
from phi3_ui.ui.render.messages import chatbot_messages
from phi3_ui.ui.render.notices import render_editing_note, render_error
from phi3_ui.ui.render.usage_panel import render_usage
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Chat, Session

_MORE = 200  # chats


class ConversationController:
    def __init__(self, page: Page, services: Services, models: ModelPicker) -> None:
        self._page = page
        self._keeper = services.conversations
        self._history = services.conversations.history
        self._models = models
        self._mlflow = services.mlflow
        # By name, what the buttons of render/actions.py ask for, given their value and words.
        self.acts: dict[str, Callable[[Session, str, str], Updates]] = {
            "open": self._open,
            "rename": self._rename,
            "delete": self._delete,
            "restore": self._restore,
            "more": self._more,
            "show": self._show,
            "edit": self._edit,
            "cancel_edit": self._cancel_edit,
            "undo": self._undo,
            "good": lambda session, turn, _: self._rate(session, turn, True),
            "bad": lambda session, turn, _: self._rate(session, turn, False),
        }

    def act(self, session: Session, name: str, value: str, text: str) -> Updates:
        """What a button of render/actions.py asks for. UserError; nothing happens for a name that is none of them."""
        known = self.acts.get(name)
        return known(session, value, text) if known else {}

    # What is shown

    def shown(self, session: Session) -> Updates:
        """Everything that shows the current chat."""
        page, chat = self._page, session.current
        session.rated = None
        return {
            **self.drawn(session),
            **self.usage(session),
            **self._models.context_of(session),
            **self.listed(session),
            **self.buttons(chat.running is not None),
            **self._editing(session),
            page.chat.comment_group: gr.Group(visible=False),
            page.replay.view: gr.Column(visible=False),
            page.reproduce.panel: self.no_snippet(),
            page.chat.warning: self._warning(session),
        }

    @staticmethod
    def no_snippet() -> gr.Accordion:
        """The program shown is of an answer that is not, any more."""
        return gr.Accordion(visible=False)

    def deleted(self, session: Session, chat: Chat) -> bool:
        """Was the chat deleted, on another page? Nothing of it may be sent or kept again."""
        return self._history.is_deleted(session.person, chat.id)

    def drawn(self, session: Session) -> Updates:
        chat = session.current
        language, link = session.language, self._mlflow.of_turn
        messages = chatbot_messages(language, chat.conversation, chat.state, lambda turn: link(language, turn.id))
        return {self._page.chat.chatbot: messages}

    def usage(self, session: Session) -> Updates:
        language, chat = session.language, session.current
        link = self._mlflow.of_chat(language, chat.id) if chat.conversation.tree else ""
        return {self._page.usage.panel: render_usage(language, chat.conversation) + link}

    def listed(self, session: Session) -> Updates:
        found = self._history.list_conversations(session.person, session.query)
        view = ChatListView(
            shown=session.current.id,
            limit=session.listed,
            deleted=session.removed,
            query=session.query.strip(),
            login=session.login,
            tab_state={"model": session.picked or "", "rated": session.rated or ""},
        )
        shown = render_chat_list(session.language, found, view, datetime.now())
        return {self._page.conversations.chat_list: shown}

    def refreshed(self, session: Session) -> Updates:
        """What has changed by itself: the warning, and the list, as it is read from the store or another page adds to it."""
        if session.removed and not self._history.is_restorable(session.person, session.removed[0]):
            session.removed = None
        # Also where nothing has changed here: answers overtake each other on their way, so the page may show an older one.
        return {**self.listed(session), self._page.chat.warning: self._warning(session)}

    def buttons(self, running: bool) -> Updates:
        return {
            self._page.composer.send: gr.Button(visible=not running),
            self._page.composer.stop: gr.Button(visible=running),
        }

    def _warning(self, session: Session) -> str:
        warning = self._keeper.recorder.warning
        return render_error(tr_error(session.language, warning)) if warning else ""

    def _editing(self, session: Session) -> Updates:
        note = render_editing_note(session.language) if session.current.editing else ""
        return {self._page.chat.editing: note}

    # The list

    def _open(self, session: Session, conversation: str, _: str) -> Updates:
        chat = session.held(conversation)
        if chat is None:
            chat = Chat(conversation, self._history.load(session.person, conversation))
        elif not chat.running:
            with contextlib.suppress(UserError):  # the store is down, or all that was asked is held here alone
                chat.conversation = self._history.load(session.person, conversation)  # another page may have asked more
        return self.turn_to(session, chat)

    def turn_to(self, session: Session, chat: Chat | None) -> Updates:
        """Show another chat; None: an empty one. What was begun in the shown one, an edit or a replay, is given up."""
        session.stop_replay()
        box = self._box(session.current)
        if chat is None:
            session.new_chat()
        else:
            session.show(chat)
        return {**self.shown(session), **box}

    def _box(self, chat: Chat) -> Updates:
        """No question is edited any more: the message box gets back what stood in it before."""
        draft = chat.end_edit()
        return {} if draft is None else {self._page.composer.message: draft}

    def back(self, session: Session, place: object) -> Updates:
        """What the tab held before it was loaded anew (scripts.TAB_STATE_JS): its chat, its model, the words that were not sent.

        A comment that was typed is kept.
        """
        if session.arrived:
            return {}
        session.arrived = True
        if not isinstance(place, dict) or place.get("login") != (session.login or ""):
            return {}
        held = {name: value for name, value in place.items() if isinstance(value, str)}
        if id_ := held.get("chat"):
            # A chat that is not there, or a store that is not: an empty one is shown.
            with contextlib.suppress(UserError):
                session.show(Chat(id_, self._history.load(session.person, id_)))
                session.rated = held.get("rated")
                self.keep_comment(session, held.get("comment"))
        session.picked = held.get("model") or session.picked
        return {self._page.composer.message: held["draft"]} if held.get("draft") else {}

    def _rename(self, session: Session, conversation: str, title: str) -> Updates:
        self._history.rename(session.person, conversation, title)
        return self.listed(session)

    def _delete(self, session: Session, conversation: str, _: str) -> Updates:
        title = self._history.get_title(session.person, conversation)
        self._history.delete(session.person, conversation)
        session.removed = (conversation, title)
        was_shown = session.current.id == conversation
        session.forget(conversation)
        return self.shown(session) if was_shown else self.listed(session)

    def _restore(self, session: Session, conversation: str, _: str) -> Updates:
        restored = self._history.restore(session.person, conversation)
        session.removed = None
        if not restored:
            raise UserError("no_such_chat")
        return self._open(session, conversation, "")

    def _more(self, session: Session, _: str, __: str) -> Updates:
        session.listed += _MORE
        return self.listed(session)

    # The shown chat

    def require(self, chat: Chat, turn_id: str) -> None:
        """UserError: no_such_turn."""
        try:
            chat.conversation.get_turn(turn_id)
        except KeyError as error:
            raise UserError("no_such_turn") from error

    def _idle(self, session: Session, turn_id: str) -> Chat:
        chat = session.current
        if chat.running:
            raise UserError("chat_busy")
        self.require(chat, turn_id)
        return chat

    def _show(self, session: Session, turn_id: str, _: str) -> Updates:
        chat = self._idle(session, turn_id)
        shown = self._branch(session, chat, chat.conversation.with_branch_of(turn_id))
        # What Undo took back into the box is asked again already.
        undone = session.typed.strip() == chat.conversation.turns[-1].question.strip()
        return {self._page.composer.message: "", **shown} if undone else shown

    def _undo(self, session: Session, turn_id: str, _: str) -> Updates:
        chat = self._idle(session, turn_id)
        question = chat.conversation.turns[-1].question
        undone = self._branch(session, chat, chat.conversation.without_last_turn())
        # Other words in the box are worth more: the question comes back with Redo.
        typed = undone.get(self._page.composer.message, session.typed)
        return undone if typed.strip() else {**undone, self._page.composer.message: question}

    def _branch(self, session: Session, chat: Chat, shown: Conversation) -> Updates:
        box, chat.conversation = self._box(chat), shown
        self._history.save_shown_branch(session.person, chat.id, shown)
        return {**self.shown(session), **box}

    def _edit(self, session: Session, turn_id: str, _: str) -> Updates:
        chat = self._idle(session, turn_id)
        chat.draft = session.typed if chat.editing is None else chat.draft
        chat.editing = turn_id
        return {**self._editing(session), self._page.composer.message: chat.conversation.get_turn(turn_id).question}

    def _cancel_edit(self, session: Session, _: str, __: str) -> Updates:
        box = self._box(session.current)
        return {**self._editing(session), **box}

    def _rate(self, session: Session, turn_id: str, good: bool) -> Updates:
        """Once more takes it back, with its comment; another thumb keeps that."""
        chat = session.current
        self.require(chat, turn_id)
        before = chat.conversation.get_turn(turn_id).feedback
        words = before.comment if before else ""
        feedback = None if before and before.good == good else Feedback(good, words)
        self._keep_feedback(session, chat, turn_id, feedback)
        session.rated = turn_id if feedback else None
        return {
            **self.drawn(session),
            **self.listed(session),
            self._page.chat.comment_group: gr.Group(visible=feedback is not None),
            self._page.chat.comment: words if feedback else "",
        }

    def comment(self, session: Session, text: str | None) -> Updates:
        """Words to the thumb that was given last."""
        self._comment(session, (text or "").strip()[:2000])
        session.rated = None
        return {self._page.chat.comment_group: gr.Group(visible=False)}

    def keep_comment(self, session: Session, text: str | None) -> None:
        """Whoever goes on to something else has meant what stands in the box of the comment."""
        if words := (text or "").strip()[:2000]:
            self._comment(session, words)

    def _comment(self, session: Session, words: str) -> None:
        chat, turn_id = session.current, session.rated
        rated = next((turn.feedback for turn in chat.conversation.tree if turn.id == turn_id), None)
        if turn_id and rated and rated.comment != words:
            self._keep_feedback(session, chat, turn_id, Feedback(rated.good, words))

    def _keep_feedback(self, session: Session, chat: Chat, turn_id: str, feedback: Feedback | None) -> None:
        chat.conversation = chat.conversation.with_feedback(turn_id, feedback)
        self._keeper.recorder.set_feedback(session.person, chat.id, turn_id, feedback)
