"""Replay: ask another model or version the questions of a chat, and compare the answers side by side."""

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

import gradio as gr

from phi3_ui.arena.blindness import is_comparison
from phi3_ui.chat.conversation import Turn, TurnRequest
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.chat.sampling_params import parse_params
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.handlers.answers import AnswerStarter
from phi3_ui.ui.handlers.conversations import Action, ConversationController
from phi3_ui.ui.notices import show_warning
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.labels import picker_label
from phi3_ui.ui.render.notices import render_note
from phi3_ui.ui.render.replay import compare, render_progress, render_replay_head
from phi3_ui.ui.replay_state import Replay
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Session

logger = logging.getLogger(__name__)

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
        self._models = services.models
        self._history = services.conversations.history
        self._starter = starter
        self._max_characters = services.settings.max_message_characters
        self._conversations = conversations
        self._session = session
        conversations.actions["replay"] = lambda session, action: self._open(session, action.value)
        conversations.actions["close_replay"] = lambda session, _: self.close(session)

    def open(self, request: gr.Request) -> Updates:
        """Show the view over the shown chat."""
        session = self._session(request)
        try:
            return self._open(session, session.current.id)
        except UserError as error:
            show_warning(session.explain(error))
            return self._unchanged

    def _open(self, session: Session, chat_id: str) -> Updates:
        """Show a chat and, over it, the view.

        Raises:
            UserError: no_such_chat, nothing_to_replay, vote_first, comparison_not_replayed, or the store does not respond.
        """
        page, language, updates = self._page.replay, session.language, Updates()
        if chat_id != session.current.id:
            if is_comparison(self._conversations.load(session, chat_id)):
                raise UserError("comparison_not_replayed")
            updates = self._conversations.perform(session, Action("open", chat_id))
        old = session.current.conversation
        if not old.turns:
            raise UserError("nothing_to_replay")
        models = self._list_models(session)
        session.panels.replay_open = True
        return {
            **updates,
            page.head: self._render_head(session),
            page.model: models,
            page.note: render_note(tr(language, "replay.hint")),
            page.comparison: compare(language, old),
        }

    def _render_head(self, session: Session) -> str:
        """Render the view's title with its Close button; empty while the view is closed."""
        if not session.panels.replay_open:
            return ""
        chat = session.current
        title = self._history.get_title(session.user_id, chat.id) or chat.conversation.title
        return render_replay_head(session.language, title)

    def _list_models(self, session: Session) -> gr.Dropdown:
        """Return the choice of models, initially the page's selected one."""
        entries = self._models.list_models()
        choices = [(picker_label(session.language, entry), entry.model_id) for entry in entries]
        return gr.Dropdown(choices=choices, value=session.model.id)

    def replay(self, key: str | None, request: gr.Request) -> Generator[Updates, None, None]:
        """Ask model `key` the questions of the shown branch, each following the new answers before it, as a separate chat."""
        session = self._session(request)
        shown = session.current
        old = shown.conversation
        try:
            if not old.turns:
                raise UserError("nothing_to_replay")
            entry = self._models.find(key)
            if shown.is_busy or (replay := session.try_start_replay(old, entry.name)) is None:
                raise UserError("chat_busy")
        except UserError as error:
            show_warning(session.explain(error))
            yield self._unchanged
            return
        session.panels.replay_open = True
        threading.Thread(
            target=self._ask_all, args=(session, replay, entry, shown.id), name="replay", daemon=True
        ).start()
        yield from self._draw_to_end(session, replay)

    def resume(self, request: gr.Request) -> Iterator[Updates]:
        """Show the view that was open before the page was reloaded, and draw its replay to the end."""
        session = self._session(request)
        if not session.panels.replay_open:
            yield self._unchanged
            return
        yield self.open(request)
        replay = session.replay
        if replay and replay.old.leaf == session.current.conversation.leaf:
            yield from self._draw_to_end(session, replay)

    def stop(self, request: gr.Request) -> None:
        """Stop the replay in progress."""
        self._session(request).stop_replay()

    def close(self, session: Session) -> Updates:
        """Stop the replay in progress, and show the chat instead of the comparison."""
        session.stop_replay()
        session.panels.replay_open = False
        return {self._page.replay.head: ""}

    @property
    def _unchanged(self) -> Updates:
        """An update without changes: a generator that yields nothing would clear its outputs."""
        return {self._page.replay.note: gr.skip()}

    def _ask_all(self, session: Session, replay: Replay, entry: ModelEntry, chat_id: str) -> None:
        """Ask one question after another, in a separate thread, until the end or until the replay is stopped."""
        error: UserError | None = None
        try:
            title = self._history.get_title(session.user_id, chat_id) or replay.old.title
            for index, turn in enumerate(replay.old.turns):
                if (running := self._start(session, replay, entry, turn)) is None:
                    break
                if index == 0:
                    title = tr(session.language, "replay.title", title=title, model=entry.name)
                    self._history.rename(session.user_id, replay.chat.id, title)
                running.wait()
                answer = replay.chat.conversation.turns[-1].answer
                if answer and answer.finish_reason == "cancelled":
                    replay.stop()
        except UserError as raised:
            error = raised
        except Exception as raised:
            logger.exception("A replay failed")
            error = UserError("unexpected", detail=type(raised).__name__)
        finally:
            if error:
                replay.stop()  # also the answer in progress, if the error came after its start
            replay.finish(error)

    def _start(self, session: Session, replay: Replay, entry: ModelEntry, turn: Turn) -> RunningTurn | None:
        """Start the next question; None if the replay was stopped."""
        if replay.is_stopped():
            return None
        request = _build_request(session, entry, turn)
        if max(len(turn.question), len(request.system)) > self._max_characters:
            raise UserError("message_too_long", count=self._max_characters)
        result = self._starter.start(
            session,
            replay.chat,
            entry,
            lambda conversation: conversation.with_question(turn.question, request),
            counts_question=False,
        )
        if result is None:
            return None
        if replay.is_stopped():  # stopped after the check above, perhaps before the turn was reserved
            replay.chat.stop()
        return result[0]

    def _draw_to_end(self, session: Session, replay: Replay) -> Iterator[Updates]:
        """Draw the comparison until the replay has ended, unless another event of the page already does.

        Closing the iterator stops the replay, unless the connection is lost.
        """
        if not session.connection.try_follow(replay):
            return
        page, language = self._page, session.language
        is_lost = session.connection.lost.is_set
        try:
            while not replay.is_finished:
                turn = max(len(replay.chat.conversation.turns), 1)
                values = {"turn": turn, "turns": len(replay.old.turns), "model": replay.model_name}
                yield {
                    **self._draw(session, replay),
                    page.replay.note: render_progress(tr(language, "replay.progress", **values)),
                }
                replay.wait(_DRAW_SECONDS)
        finally:
            session.connection.unfollow(replay)
            if not is_lost():
                replay.stop()
        if replay.error:
            show_warning(session.explain(replay.error))
        if replay.chat.conversation.tree and not self._history.is_deleted(session.user_id, replay.chat.id):
            session.add(replay.chat)
        outcome = "replay.stopped" if replay.is_stopped() else "replay.done"
        yield {
            **self._draw(session, replay),
            **self._conversations.list_chats(session),
            page.replay.note: render_note(tr(language, outcome, model=replay.model_name)),
        }

    def _draw(self, session: Session, replay: Replay) -> Updates:
        comparison = compare(session.language, replay.old, replay.chat.conversation)
        return {self._page.replay.head: self._render_head(session), self._page.replay.comparison: comparison}


def _build_request(session: Session, entry: ModelEntry, turn: Turn) -> TurnRequest:
    """Return the turn's request for another model, with the parameters that this model supports.

    Raises:
        UserError: invalid_param or bad_seed for an imported chat, whose file may contain anything.
    """
    before = turn.request or TurnRequest(0.0, "")
    return replace(
        before,
        asked_at=time.time(),
        model_id=entry.model_id,
        params=parse_params(before.params.as_dict(), set(entry.supported_params)),
        template=session.model.get_template(entry),
        prefix="",  # the beginning of the old answer
    )
