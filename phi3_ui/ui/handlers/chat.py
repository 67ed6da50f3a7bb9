"""Browser event → service → component-keyed updates: asking, and drawing what comes. No layout, no HTML."""

import os
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from phi3_ui.chat.conversation import Conversation, TurnRequest, new_id
from phi3_ui.chat.types import GenerationParams
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import detect_language, tr, tr_error
from phi3_ui.provision.jobs import JobState
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.handlers.answers import AnswerStarter
from phi3_ui.ui.handlers.conversations import ConversationController
from phi3_ui.ui.handlers.model_picker import ModelPicker
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.job_progress import render_setup
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Session

# Seconds between drawings of an answer; its first words and its end are drawn at once. Each drawing costs the server
# and the browser time that grows with the chat, and where they share few cores with the model it costs tokens: see
# bench/README.md.
DRAW_EVERY = 0.05 if (os.cpu_count() or 1) >= 4 else 0.2
DRAW_LONG_EVERY = 2 * DRAW_EVERY
_LONG = 50  # turns


class ChatController:
    def __init__(
        self,
        page: Page,
        services: Services,
    ) -> None:
        self.models = ModelPicker(page, services, self.session)
        self.chats = ConversationController(page, services, self.models)
        self.asking = AnswerStarter(services, self.models)
        self._page = page
        self._catalogue = services.catalogue
        self._setup = services.first_run
        self._mlflow = services.mlflow
        self._sessions = services.sessions

    # Set-up

    def tick(self, token: str | None, place: object, request: gr.Request) -> Updates:
        """The set-up's progress; the chat as soon as there is a model to chat with.

        `token` is the secret by which a browser is known again, `place` what the tab held before it was reloaded.
        """
        session = self.session(request)
        session.arrive(token)
        state = self._setup.state
        updates = self._setup_updates(session, state)
        if not state.is_usable:
            return updates
        chat_is_shown, session.is_setting_up = session.is_setting_up, state.phase != "done"
        if chat_is_shown:  # only the set-up went on
            return {**updates, **({} if session.is_setting_up else self.models.list_models(request))}
        return {
            **self.chats.back(session, place),
            **self.models.list_models(request),
            **updates,
            self._page.chat_view: gr.Column(visible=True),
            **self.chats.shown(session),
            # A page that connects again keeps what it shows.
            self._page.replay.view: gr.skip(),
            self._page.reproduce.panel: gr.skip(),
        }

    def _setup_updates(self, session: Session, state: JobState) -> Updates:
        setup, failed = self._page.setup, state.phase == "failed"
        return {
            setup.view: gr.Column(visible=state.phase != "done"),
            setup.panel: render_setup(session.language, state),
            setup.retry: gr.Button(visible=failed),
            setup.ticker: gr.Timer(active=not state.is_finished),
        }

    def retry_setup(self, token: str | None, place: object, request: gr.Request) -> Updates:
        self._setup.start()
        return self.tick(token, place, request)

    # Chat

    def send(
        self,
        text: str,
        key: str | None,
        system: str,
        temperature: float,
        top_p: float,
        max_tokens: float,
        top_k: float | None,
        stop: str,
        seed: str,
        repetition_penalty: float,
        presence_penalty: float,
        frequency_penalty: float,
        request: gr.Request,
    ) -> Iterator[Updates]:
        """Ask, and draw the answer as it comes. What was typed stays in its box if it cannot be asked."""
        session = self.session(request)
        if not text.strip():
            yield {self._page.composer.message: gr.skip()}
            return
        given = _given(
            temperature, top_p, max_tokens, top_k, stop, seed, repetition_penalty, presence_penalty, frequency_penalty
        )
        # Half an emoji, as a program may send, can be written nowhere: it becomes the replacement character.
        text, system = (typed.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for typed in (text, system))
        chat = session.current

        def asked(with_: TurnRequest) -> Conversation:
            if chat.editing:
                return chat.conversation.with_variant(chat.editing, text, with_)
            return chat.conversation.with_question(text, with_)

        yield from self._ask(session, key, system, given, asked, clear=True)

    def act(
        self,
        key: str | None,
        system: str,
        temperature: float,
        top_p: float,
        max_tokens: float,
        top_k: float | None,
        stop: str,
        seed: str,
        repetition_penalty: float,
        presence_penalty: float,
        frequency_penalty: float,
        comment: str,
        typed: str,
        request: gr.Request,
        event: gr.EventData,
    ) -> Iterator[Updates]:
        """What a small button in a message or in the list asks for: see render/actions.py."""
        session = self.session(request)
        session.typed = typed or ""
        name, value, text = (str(event._data.get(part) or "") for part in ("name", "value", "text"))
        try:
            self.chats.keep_comment(session, comment)
            if name != "retry":
                yield self.chats.act(session, name, value, text) or {self._page.composer.message: gr.skip()}
                return
            chat = session.current
            self.chats.require(chat, value)
            if self.chats.deleted(session, chat):
                raise UserError("no_such_chat")
            given = _given(
                temperature,
                top_p,
                max_tokens,
                top_k,
                stop,
                seed,
                repetition_penalty,
                presence_penalty,
                frequency_penalty,
            )
            again = chat.conversation
            yield from self._ask(
                session,
                key,
                system,
                given,
                lambda with_: again.with_variant(value, request=with_),
                clear=chat.editing is not None,
            )
        except UserError as error:
            gr.Warning(tr_error(session.language, error))
            yield {self._page.composer.message: gr.skip()}

    def _ask(
        self, session: Session, key: str | None, system: str, given: Any, asked: Any, clear: bool
    ) -> Iterator[Updates]:
        page, chat = self._page, session.current
        unchanged = {page.composer.message: gr.skip()}
        if chat.running:
            gr.Warning(tr(session.language, "already_answering"))
            yield unchanged
            return
        try:
            entry = self._entry(session, key)
            # What a model does not take is shown as off: it is not sent.
            params = GenerationParams(
                **{name: value for name, value in given().items() if name in entry.supported_params}
            )
        except UserError as error:
            gr.Warning(tr_error(session.language, error))
            yield unchanged
            return
        template = session.templates.get(entry.model_id) or entry.template
        draft = chat.draft
        if self.chats.deleted(session, chat):
            gr.Warning(tr(session.language, "deleted_elsewhere"))
            chat.end_edit()
            chat.id, chat.conversation = new_id(), Conversation()
        conversation = asked(TurnRequest(time.time(), entry.model_id, system, params, template))
        chat.end_edit()
        turn = self.asking.start(session, chat, entry, conversation)
        yield {
            **({page.composer.message: draft} if clear else {}),
            page.reproduce.panel: self.chats.no_snippet(),
            **self.chats.drawn(session),
            **self.chats.listed(session),
            **self.chats.buttons(running=True),
            page.chat.editing: "",
        }
        for state in turn.snapshots(DRAW_LONG_EVERY if len(chat.conversation.turns) > _LONG else DRAW_EVERY):
            if chat.running is turn:
                chat.state = state
            if session.current is chat:
                yield self.chats.drawn(session)
        # Gradio gives the page what was last yielded once more at the end: of a chat that is not shown, nothing.
        yield {**self.chats.drawn(session), **self.chats.buttons(session.current.running is not None)}

    def _entry(self, session: Session, key: str | None) -> ModelEntry:
        """The picked model. A model id means the same for ever, so a store that is down stops no chat with one picked before."""
        if session.entry and session.entry.model_id == key:
            return session.entry
        return self._catalogue.find(key)

    def stop(self, request: gr.Request) -> None:
        """Stop the answer of the shown chat; its last words are drawn by the event that asked."""
        if running := self.session(request).current.running:
            running.stop()

    def new_chat(self, comment: str, request: gr.Request) -> Updates:
        session = self.session(request)
        self.chats.keep_comment(session, comment)
        return self.chats.turn_to(session, None)

    def search(self, query: str | None, request: gr.Request) -> Updates:
        session = self.session(request)
        session.query, session.listed = query or "", 100
        return self.chats.listed(session)

    def comment(self, text: str, request: gr.Request) -> Updates:
        return self.chats.comment(self.session(request), text)

    def after_turn(self, request: gr.Request) -> Updates:
        """What changes once an answer has ended: usage, context, the list of chats, the model's state."""
        session = self.session(request)
        return {
            **self.chats.usage(session),
            **self.chats.listed(session),
            **self.models.status_of(session),
            **self.models.context_of(session),
        }

    def status(self, request: gr.Request) -> Updates:
        """What changes by itself: how the model is, whether chats can be kept, the deletion that may be taken back."""
        session = self.session(request)
        if (
            not session.arrived
        ):  # a page of a server that was restarted: it is about to be loaded anew, and shows more than we know
            return {self._page.chat.warning: gr.skip()}
        updates = {**self.models.status_of(session), **self.chats.refreshed(session)}
        if session.linked != (linked := self._mlflow.base is not None):
            session.linked = linked
            updates |= {**self.models.card_of(session), **self.chats.usage(session)}
            if not session.current.running:
                updates |= self.chats.drawn(session)
        return updates

    def leave(self, request: gr.Request) -> None:
        self._sessions.close(str(request.session_hash))

    def session(self, request: gr.Request) -> Session:
        language = detect_language(request.headers.get("accept-language"))
        return self._sessions.of(str(request.session_hash), language, getattr(request, "username", None))


def _given(
    temperature: float,
    top_p: float,
    max_tokens: float,
    top_k: float | None,
    stop: str,
    seed: str,
    repetition_penalty: float,
    presence_penalty: float,
    frequency_penalty: float,
) -> Any:
    """Gives the fields of GenerationParams that the page's controls say. UserError("bad_seed") then."""
    return lambda: {
        "max_tokens": int(max_tokens),
        "temperature": float(temperature),
        "top_p": float(top_p),
        "top_k": None if top_k is None else int(top_k),
        "stop": tuple(line for line in stop.splitlines() if line),
        "seed": _seed(seed),
        "repetition_penalty": repetition_penalty,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
    }


def _seed(text: str) -> int | None:
    """UserError("bad_seed") for what is no whole number below 2³¹."""
    if not text.strip():
        return None
    if not text.strip().isdecimal() or int(text) >= 2**31:
        raise UserError("bad_seed", value=text.strip())
    return int(text)
