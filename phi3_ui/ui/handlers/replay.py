"""Replay: ask a chat's questions again, of another model or version, and compare the answers side by side."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import gradio as gr

from phi3_ui.chat.conversation import Conversation, Turn, TurnRequest
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.chat.types import GenerationParams
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr, tr_error
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.chat_state import Chat
from phi3_ui.ui.handlers.answers import AnswerStarter
from phi3_ui.ui.handlers.conversations import ConversationController
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.notices import render_note
from phi3_ui.ui.render.replay import render_replay
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Session

_DRAW_SECONDS = 0.5


class ReplayController:
    """Runs one replay per page at a time."""

    def __init__(
        self,
        page: Page,
        services: Services,
        starter: AnswerStarter,
        conversations: ConversationController,
        session: Callable[[gr.Request], Session],
    ) -> None:
        self._page = page
        self._catalogue = services.catalogue
        self._history = services.conversations.history
        self._starter = starter
        self._conversations = conversations
        self._session = session

    def replay(self, key: str | None, request: gr.Request) -> Iterator[Updates]:
        """Ask the shown branch's questions of model `key`, each with its new answers before it, as a chat of its own."""
        page, session = self._page, self._session(request)
        language, shown = session.language, session.current
        old = shown.conversation
        try:
            if not old.turns:
                raise UserError("nothing_to_replay")
            entry = self._catalogue.find(key)
            if shown.is_busy or (chat := session.try_start_replay()) is None:
                raise UserError("chat_busy")
        except UserError as error:
            gr.Warning(tr_error(language, error))
            yield {page.replay.note: gr.skip()}
            return
        was_stopped = False
        try:
            title = self._history.get_title(session.user_id, shown.id) or old.title
            session.panels.replay_open = True
            yield {page.replay.view: gr.Column(visible=True), page.replay.stop: gr.Button(visible=True)}
            for index, turn in enumerate(old.turns):
                if (running := self._start(session, chat, entry, turn)) is None:
                    break
                if index == 0:
                    title = tr(language, "replay.title", title=title, model=entry.name)
                    self._history.rename(session.user_id, chat.id, title)
                progress = tr(language, "replay.progress", turn=index + 1, turns=len(old.turns), model=entry.name)
                for _ in running.snapshots(_DRAW_SECONDS, session.connection_lost.is_set):
                    yield {**self._draw(session, old, chat.conversation), page.replay.note: render_note(progress)}
                answer = chat.conversation.turns[-1].answer
                if answer and answer.finish_reason == "cancelled":
                    session.stop_replay()
        finally:
            was_stopped = session.finish_replay()
            if chat.conversation.tree and not self._history.is_deleted(session.user_id, chat.id):
                session.add(chat)
        outcome = tr(language, "replay.stopped" if was_stopped else "replay.done", model=entry.name)
        yield {
            **self._draw(session, old, chat.conversation),
            **self._conversations.list_chats(session),
            page.replay.note: render_note(outcome),
            page.replay.stop: gr.Button(visible=False),
        }

    def stop(self, request: gr.Request) -> None:
        """Stop the replay in progress."""
        self._session(request).stop_replay()

    def back(self, request: gr.Request) -> Updates:
        """Stop the replay in progress, and show the chat in place of the comparison."""
        self.stop(request)
        self._session(request).panels.replay_open = False
        return {self._page.replay.view: gr.Column(visible=False)}

    def _start(self, session: Session, chat: Chat, entry: ModelEntry, turn: Turn) -> RunningTurn | None:
        """Start the next question; None if the replay was stopped."""
        if session.is_replay_stopped():
            return None
        request = _build_request(session, entry, turn)
        result = self._starter.start(
            session, chat, entry, lambda conversation, _: conversation.with_question(turn.question, request)
        )
        if result is None:
            return None
        if session.is_replay_stopped():  # stopped after the check above, perhaps before the turn was reserved
            chat.stop()
        return result[0]

    def _draw(self, session: Session, old: Conversation, new: Conversation) -> Updates:
        # Shown again each time, unless the user has closed it: Gradio's page sometimes misses that a column becomes visible.
        view = gr.Column(visible=session.panels.replay_open)
        return {self._page.replay.view: view, self._page.replay.comparison: render_replay(session.language, old, new)}


def _build_request(session: Session, entry: ModelEntry, turn: Turn) -> TurnRequest:
    """The turn's request for another model, with the parameters that this one supports."""
    before = turn.request or TurnRequest(0.0, "")
    supported = {name: value for name, value in vars(before.params).items() if name in entry.supported_params}
    return replace(
        before,
        asked_at=time.time(),
        model_id=entry.model_id,
        params=GenerationParams(**supported),
        template=session.get_template(entry),
    )
