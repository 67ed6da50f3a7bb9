"""A chat asked once more, of another model or version: its questions in turn, and the answers side by side."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import gradio as gr

from phi3_ui.chat.conversation import Conversation, Turn, TurnRequest
from phi3_ui.chat.types import GenerationParams
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr, tr_error
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.handlers.answers import AnswerStarter
from phi3_ui.ui.handlers.conversations import ConversationController
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.notices import render_note
from phi3_ui.ui.render.replay import render_replay
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Chat, Session

_LOOK_EVERY = 0.5  # seconds


class ReplayController:
    def __init__(
        self,
        page: Page,
        services: Services,
        asking: AnswerStarter,
        chats: ConversationController,
        session: Callable[[gr.Request], Session],
    ) -> None:
        self._page = page
        self._catalogue = services.catalogue
        self._history = services.conversations.history
        self._asking = asking
        self._chats = chats
        self._session = session

    def replay(self, key: str | None, request: gr.Request) -> Iterator[Updates]:
        """Ask the shown branch's questions of the model `key`, each with what it answered before; it is a chat of its own."""
        page, session = self._page, self._session(request)
        language = session.language
        old = session.current.conversation
        try:
            if not old.turns:
                raise UserError("nothing_to_replay")
            if session.current.running or session.replay:
                raise UserError("chat_busy")
            entry = self._catalogue.find(key)
        except UserError as error:
            gr.Warning(tr_error(session.language, error))
            yield {page.replay.note: gr.skip()}
            return
        title = self._history.get_title(session.person, session.current.id) or old.title
        chat = session.replay = Chat()
        # From here on the comparison is only drawn: who has put it away does not get it back.
        yield {page.replay.view: gr.Column(visible=True), page.replay.stop: gr.Button(visible=True)}
        try:
            for at, turn in enumerate(old.turns):
                asked = _asked(session, entry, turn)
                running = self._asking.start(
                    session, chat, entry, chat.conversation.with_question(turn.question, asked)
                )
                if at == 0:
                    self._history.rename(
                        session.person, chat.id, tr(session.language, "replay.title", title=title, model=entry.name)
                    )
                for _ in running.snapshots(_LOOK_EVERY):
                    words = render_note(
                        tr(session.language, "replay.progress", turn=at + 1, turns=len(old.turns), model=entry.name)
                    )
                    yield {**self._view(session, old, chat.conversation), page.replay.note: words}
                answer = chat.conversation.turns[-1].answer
                if chat.stopped or (answer and answer.finish_reason == "cancelled"):
                    chat.stopped = True
                    break
        finally:
            session.replay = None
            if not self._history.is_deleted(session.person, chat.id):
                session.add(chat)
        yield {
            **self._view(session, old, chat.conversation),
            **self._chats.listed(session),
            page.replay.note: render_note(
                tr(language, "replay.stopped" if chat.stopped else "replay.done", model=entry.name)
            ),
            page.replay.stop: gr.Button(visible=False),
        }

    def stop(self, request: gr.Request) -> None:
        self._session(request).stop_replay()

    def back(self, request: gr.Request) -> Updates:
        """The chat again, in place of the comparison."""
        self.stop(request)
        return {self._page.replay.view: gr.Column(visible=False)}

    def _view(self, session: Session, old: Conversation, new: Conversation) -> Updates:
        return {self._page.replay.comparison: render_replay(session.language, old, new)}


def _asked(session: Session, entry: ModelEntry, turn: Turn) -> TurnRequest:
    """As it was asked then, as far as this model takes it."""
    template = session.templates.get(entry.model_id) or entry.template
    before = turn.request or TurnRequest(0.0, "")
    kept = {name: value for name, value in vars(before.params).items() if name in entry.supported_params}
    return replace(
        before, asked_at=time.time(), model_id=entry.model_id, params=GenerationParams(**kept), template=template
    )
