"""Ask a model, store its answer, and draw it while it arrives."""

import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.chat.sampling_params import parse_params
from phi3_ui.chat.surrogates import replace_surrogates
from phi3_ui.chat.token_use import count_used_tokens
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr
from phi3_ui.store.conversations.turn_writer import TurnWriter
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.chat_state import Chat, StartedTurn
from phi3_ui.ui.handlers.conversations import ConversationController
from phi3_ui.ui.handlers.model_picker import ModelPicker
from phi3_ui.ui.notices import show_warning
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.labels import answer_label
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Session
from phi3_ui.ui.starters import Starter

# Seconds between redraws of an answer; its first words and its end are drawn immediately. If server and browser share
# few cores with the model, drawing slows the model down: see bench/README.md.
DRAW_EVERY = 0.05 if (os.cpu_count() or 1) >= 4 else 0.2

AddTurn = Callable[[Conversation], Conversation]
"""Adds a turn to a conversation."""


class AnswerStarter:
    """Starts turns and stores their answers."""

    def __init__(self, services: Services) -> None:
        self._settings = services.settings
        self._quotas = services.quotas
        self._store = services.conversations
        self._models = services.models
        self._metrics = services.metrics

    def start(
        self, session: Session, chat: Chat, entry: ModelEntry, add_turn: AddTurn, counts_question: bool = True
    ) -> tuple[RunningTurn, StartedTurn] | None:
        """Start a turn of `chat`; return None if another one is in progress or the page has closed.

        The chat gets the answer, however it ends, even if nothing reads the running turn. `counts_question`: a user asked it,
        unlike the questions of a replay.

        Raises:
            UserError: As `Quotas.claim`.
        """
        if session.is_closed() or (started := chat.try_start(add_turn)) is None:
            return None
        label, person = answer_label(session.language, entry), session.person
        request = started.conversation.turns[-1].request
        is_blind = request is not None and request.round is not None and request.round.is_blind

        def finish(answer: Answer) -> None:
            self._quotas.release(person, count_used_tokens(asked, answer))
            self._metrics.observe(None if is_blind else entry.name, answer)
            _finish(chat, started.turn_id, writer, answer)

        try:
            self._quotas.claim(person, counts_question=counts_question)
        except BaseException:
            chat.abort_start(started.turn_id)
            raise
        try:
            writer = self._store.start_turn(session.user_id, chat.id, started.conversation, label)
            asked = started.conversation.build_request(self._settings.answer_seconds)
            turn = RunningTurn(
                replace(asked, gpu_token=session.gpu_token),
                label,
                lambda: self._models.open(entry),
                finish,
                writer.append_text,
            )
        except BaseException:
            self._quotas.release(person)
            chat.abort_start(started.turn_id)
            raise
        self._metrics.track(turn)
        chat.attach(turn)
        if session.is_closed():  # closed after the check above, perhaps before the chat was reserved
            turn.stop()
        return turn.start(), started


def _finish(chat: Chat, turn_id: str, writer: TurnWriter, answer: Answer) -> None:
    try:
        writer.finish(answer)
    finally:
        chat.finish(turn_id, answer)


class AnswerController:
    """Handlers that end with an answer."""

    def __init__(
        self,
        page: Page,
        services: Services,
        models: ModelPicker,
        conversations: ConversationController,
        starter: AnswerStarter,
    ) -> None:
        self._page = page
        self._find = services.models.find
        self._models = models
        self._conversations = conversations
        self._starter = starter
        self._max_characters = services.settings.max_message_characters

    def send(
        self, session: Session, text: str, key: str | None, values: Mapping[str, Any], clears_message: bool = True
    ) -> Generator[Updates, None, None]:
        """Ask a question. If that fails, its text stays in the message box."""
        if not text.strip():
            yield self._unchanged
            return
        try:
            entry, request = self._prepare(session, key, values, text)
            chat, question = session.current, replace_surrogates(text)
            if self._conversations.is_deleted(session, chat) and chat.restart():
                show_warning(tr(session.language, "deleted_elsewhere"))
            yield from self._ask(
                session, chat, entry, lambda conversation: conversation.with_question(question, request), clears_message
            )
        except UserError as error:
            show_warning(session.explain(error))
            yield self._unchanged

    def ask_variant(
        self, session: Session, turn_id: str, question: str | None, key: str | None, values: Mapping[str, Any]
    ) -> Iterator[Updates]:
        """Ask an edited question or, with None, the same one again, with the current model and settings.

        Raises:
            UserError: no_such_turn, no_such_chat, or the model or a setting is invalid.
        """
        chat = session.current
        self._conversations.require_turn(chat, turn_id)
        if self._conversations.is_deleted(session, chat):
            raise UserError("no_such_chat")
        entry, request = self._prepare(session, key, values, question or "")
        edited = None if question is None else replace_surrogates(question)
        before = chat.conversation.get_turn(turn_id).request
        request = replace(request, continues=edited is None and before is not None and before.continues)
        yield from self._ask(
            session,
            chat,
            entry,
            lambda conversation: conversation.with_variant(turn_id, edited, request),
            clears_message=False,
        )

    def ask_starter(
        self, session: Session, starter: Starter, key: str | None, values: Mapping[str, Any]
    ) -> Iterator[Updates]:
        """Ask a starter's question, with its system prompt if it has one."""
        language = session.language
        if starter.system is not None:
            system = tr(language, starter.system)
            values = {**values, "system": system}
            yield {self._page.settings.system: system}
        yield from self.send(session, tr(language, starter.question), key, values, clears_message=False)

    def continue_answer(
        self, session: Session, turn_id: str, key: str | None, values: Mapping[str, Any]
    ) -> Iterator[Updates]:
        """Have the model continue an answer that was cut off at max tokens.

        If its contract supports a prefix of the answer, the result is a variant of the turn: one request, whose prompt
        ends with the text so far, and one answer. Other models are asked a question to continue, which the page shows as a note.

        Raises:
            UserError: As ask_variant.
        """
        chat = session.current
        self._conversations.require_turn(chat, turn_id)
        if self._conversations.is_deleted(session, chat):
            raise UserError("no_such_chat")
        entry, request = self._prepare(session, key, values, "")
        answer = chat.conversation.get_turn(turn_id).answer
        prefix = answer.text if answer and entry.can_continue else ""
        question = tr(session.language, "continue.question")

        def add_turn(conversation: Conversation) -> Conversation:
            if prefix:
                return conversation.with_variant(turn_id, None, replace(request, prefix=prefix))
            return conversation.with_question(question, replace(request, continues=True))

        yield from self._ask(session, chat, entry, add_turn, clears_message=False)

    @property
    def _unchanged(self) -> Updates:
        """An update without changes: a generator that yields nothing would clear its outputs."""
        return {self._page.composer.message: gr.skip()}

    def _prepare(
        self, session: Session, key: str | None, values: Mapping[str, Any], question: str
    ) -> tuple[ModelEntry, TurnRequest]:
        """Return the model and the request. Parameters that the model does not support, shown as disabled, are left out.

        Raises:
            UserError: message_too_long, no_model, model_gone, store_unreachable, invalid_param, bad_seed.
        """
        system = str(values.get("system") or "")
        if max(len(question), len(system)) > self._max_characters:
            raise UserError("message_too_long", count=self._max_characters)
        # A model id never changes its meaning, so chats with a model found before continue while the store is down.
        entry = session.model.entry
        if entry is None or entry.model_id != key:
            entry = self._find(key)
        params = parse_params(values, set(entry.supported_params))
        return entry, TurnRequest(
            time.time(), entry.model_id, replace_surrogates(system), params, session.model.get_template(entry)
        )

    def _ask(
        self, session: Session, chat: Chat, entry: ModelEntry, add_turn: AddTurn, clears_message: bool
    ) -> Iterator[Updates]:
        page = self._page
        if (result := self._starter.start(session, chat, entry, add_turn)) is None:
            show_warning(tr(session.language, "already_answering"))
            yield self._unchanged
            return
        turn, _ = result
        updates: Updates = {page.composer.message: ""} if clears_message else {}
        if session.current is chat:
            updates |= {
                **self._conversations.draw_chat(session),
                **self._conversations.show_buttons(session),
            }
        yield from self._draw_answer(session, chat, turn, {**updates, **self._conversations.list_chats(session)})

    def follow(self, session: Session) -> Iterator[Updates]:
        """Draw the shown chat's answer in progress to its end, unless another event of the page draws it.

        If the answer has ended since the chat was drawn, draw the chat again: nothing else would show the answer's end.
        """
        chat, panels = session.current, session.panels
        awaits_answer, panels.awaits_answer = panels.awaits_answer, False
        if turn := chat.await_running():
            yield from self._draw_answer(session, chat, turn, {})
        elif awaits_answer and session.current is chat:
            yield {**self._conversations.draw_chat(session), **self._conversations.show_buttons(session)}

    def _draw_answer(self, session: Session, chat: Chat, turn: RunningTurn, updates: Updates) -> Iterator[Updates]:
        """Draw `turn` while its chat is shown; the first time, yield `updates`, too.

        Closing the iterator stops the turn, unless the connection is lost.
        """
        if not session.connection.try_follow(turn):
            return
        try:
            for snapshot in turn.snapshots(DRAW_EVERY, session.connection.lost.is_set):
                chat.report_progress(turn, snapshot)
                if session.current is chat:
                    updates = {**updates, **self._conversations.draw_running(session)}
                if updates:
                    yield updates
                updates = {}
        finally:
            session.connection.unfollow(turn)
        # Gradio sends the last update again at the end, so it must be of the shown chat.
        yield {**self._conversations.draw_chat(session), **self._conversations.show_buttons(session)}
