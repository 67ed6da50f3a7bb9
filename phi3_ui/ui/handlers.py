"""Browser event → service → component-keyed updates. No layout, no HTML."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from phi3_ui.chat.service import RunningTurn
from phi3_ui.chat.types import GenerationParams
from phi3_ui.errors import UserError
from phi3_ui.host.pool import Pool
from phi3_ui.host.wire import ModelSpec
from phi3_ui.setup import Setup
from phi3_ui.store.catalogue import Catalogue, ModelEntry
from phi3_ui.store.doctor import examine
from phi3_ui.ui import panels
from phi3_ui.ui.convert import chatbot_messages
from phi3_ui.ui.i18n import language_of, tr, tr_error
from phi3_ui.ui.sessions import Chat, Session, Sessions

Updates = dict[Any, Any]

# Seconds between drawings of an answer; its first words and its end are drawn at once. Each drawing costs the server
# and the browser time that grows with the chat, and where they share few cores with the model it costs tokens: see
# bench/README.md.
DRAW_EVERY = 0.05 if (os.cpu_count() or 1) >= 4 else 0.2
DRAW_LONG_EVERY = 2 * DRAW_EVERY
_LONG = 50  # turns

# The words under a control that say what its values mean.
INFOS = {"temperature": "temperature_info", "top_k": "top_k_info", "stop": "stop_info", "seed": "seed_info"}

_LOOK_EVERY = 0.5  # seconds between looks at a model that loads


@dataclass(frozen=True)
class Page:
    """The components that handlers write to."""

    setup_view: gr.Column
    setup_panel: gr.HTML
    retry_setup: gr.Button
    chat_view: gr.Column
    ticker: gr.Timer
    chats: gr.Radio
    picker: gr.Dropdown
    template: gr.Dropdown
    controls: Mapping[str, Any]  # by the name of the field of GenerationParams that each sets
    status: gr.HTML
    unload: gr.Button
    chatbot: gr.Chatbot
    message: gr.Textbox
    send: gr.Button
    stop: gr.Button
    usage: gr.HTML
    card: gr.HTML
    relog: gr.Button


class Handlers:
    def __init__(self, page: Page, catalogue: Catalogue, pool: Pool, setup: Setup, sessions: Sessions) -> None:
        self._page = page
        self._catalogue = catalogue
        self._pool = pool
        self._setup = setup
        self._sessions = sessions

    # Set-up

    def tick(self, request: gr.Request) -> Updates:
        """The set-up's progress; once it is done, the chat."""
        page, session = self._page, self.session(request)
        state = self._setup.state
        if state.phase == "done":
            models = self.list_models(request)
            return {
                **models,
                page.ticker: gr.Timer(active=False),
                **self._views(ready=True),
                **self._shown_chat(session),
            }
        failed = state.phase == "failed"
        return {
            page.setup_panel: panels.setup_panel(session.language, state),
            page.retry_setup: gr.Button(visible=failed),
            page.ticker: gr.Timer(active=not failed),
        }

    def retry_setup(self, request: gr.Request) -> Updates:
        self._setup.start()
        return self.tick(request)

    def _views(self, ready: bool) -> Updates:
        return {self._page.setup_view: gr.Column(visible=not ready), self._page.chat_view: gr.Column(visible=ready)}

    # Models

    def list_models(self, request: gr.Request) -> Updates:
        """The picker's choices as the store has them now; what is picked stays picked while it is there."""
        return self.listed(self.session(request))

    def listed(self, session: Session) -> Updates:
        page, language = self._page, session.language
        try:
            entries, aliases = self._catalogue.models(), self._catalogue.aliases()
        except UserError as error:
            return {page.status: panels.problem(tr_error(language, error))}
        choices = [(panels.picker_label(language, entry), entry.model_id) for entry in entries]
        choices += [
            (panels.alias_label(language, alias.name, alias.alias, alias.version), f"{alias.name}@{alias.alias}")
            for alias in aliases
        ]
        keys = [key for _, key in choices]
        if session.picked not in keys:
            session.picked = keys[0] if keys else None
        updates: Updates = {page.picker: gr.Dropdown(choices=choices, value=session.picked)}
        if not entries:
            updates[page.status] = panels.problem(tr(language, "store_empty"))
        return updates

    def pick(self, key: str | None, request: gr.Request) -> Iterator[Updates]:
        """Show a model's card, load it, and say how the load goes until it has ended or another model is picked."""
        session = self.session(request)
        session.picked, session.model_id = key or None, None
        try:
            entry = self._catalogue.find(key)
            card = self._card(session, entry)
            if session.picked != key:  # another was picked meanwhile
                yield {self._page.status: gr.skip()}  # a generator that yields nothing empties its outputs
                return
            session.model_id = entry.model_id
            yield {**card, **self._controls(session, entry)}
            model = self._pool.model(_spec(entry))
        except UserError as error:
            yield {self._page.status: panels.problem(tr_error(session.language, error))}
            return
        while not model.ready.done() and session.picked == key:
            yield self._status(session)
            self._wait_for_load(model.ready)
        if session.picked == key:
            yield self._status(session)

    def shown_model(self, session: Session) -> Updates:
        """The picker and the picked model's card, as the store has them now."""
        updates = self.listed(session)
        if not session.picked:
            return updates
        try:
            entry = self._catalogue.find(session.picked)
            return {**updates, **self._card(session, entry), **self._controls(session, entry)}
        except UserError as error:
            return {**updates, self._page.status: panels.problem(tr_error(session.language, error))}

    def _card(self, session: Session, entry: ModelEntry) -> Updates:
        """The model's card and state of health."""
        page, language = self._page, session.language
        card = self._catalogue.card(entry.model_id)
        diagnosis = examine(self._catalogue.tracking_uri, entry.model_id)
        template = session.templates.get(entry.model_id) or entry.template
        return {
            page.card: panels.card_panel(language, card, diagnosis),
            page.relog: gr.Button(visible=diagnosis.ours and diagnosis.severity != "ok"),
            page.template: gr.Dropdown(visible=entry.needs_template, value=template),
        }

    def _controls(self, session: Session, entry: ModelEntry) -> Updates:
        """Those that this model takes and the last one did not, or the other way round.

        The others are let be: an update undoes what a person changes at that moment.
        """
        off = frozenset(self._page.controls) - set(entry.honours)
        changed, session.off = off ^ session.off, off
        return {self._page.controls[name]: self._control(session.language, name, name in off) for name in changed}

    @staticmethod
    def _control(language: str, name: str, off: bool) -> Any:
        info = tr(language, INFOS[name]) if name in INFOS else ""
        return gr.update(interactive=not off, info=tr(language, "control_off") if off else info)

    def status(self, request: gr.Request) -> Updates:
        return self._status(self.session(request))

    def unload(self, request: gr.Request) -> Updates:
        session = self.session(request)
        try:
            self._pool.unload(session.model_id or "")
        except UserError as error:
            gr.Warning(tr_error(session.language, error))
        return self._status(session)

    @staticmethod
    def _wait_for_load(ready: Any) -> None:
        with contextlib.suppress(TimeoutError, UserError):  # the next status says which
            ready.result(timeout=_LOOK_EVERY)

    def _status(self, session: Session) -> Updates:
        page = self._page
        model = self._pool.peek(session.model_id or "")
        if model is None:
            line = panels.status_line(session.language, None, None)
        elif not model.ready.done():
            line = panels.status_line(session.language, time.monotonic() - model.started, None)
        elif isinstance(error := model.ready.exception(), UserError):
            line = panels.problem(tr_error(session.language, error))
        else:
            line = panels.status_line(session.language, None, model.ready.result() if model.alive else None)
        loaded = model is not None and model.alive and model.ready.done()
        return {page.status: line, page.unload: gr.Button(interactive=loaded)}

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
        page, session = self._page, self.session(request)
        chat = session.current
        unchanged = {page.message: gr.skip()}
        if not text.strip():
            yield unchanged
            return
        if chat.running:
            gr.Warning(tr(session.language, "already_answering"))
            yield unchanged
            return
        try:
            entry = self._catalogue.find(key)
            given: dict[str, Any] = {
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
        except UserError as error:
            gr.Warning(tr_error(session.language, error))
            yield unchanged
            return
        # Half an emoji, as a program may send, can be written nowhere: it becomes the replacement character.
        text, system = (typed.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for typed in (text, system))
        chat.conversation = chat.conversation.ask(text)
        turn = chat.running = RunningTurn(
            chat.conversation,
            lambda: self._pool.model(_spec(entry)),
            panels.answer_label(session.language, entry),
            system,
            # What a model does not take is shown as off: it is not sent.
            GenerationParams(**{name: value for name, value in given.items() if name in entry.honours}),
            chat.keep,
            session.templates.get(entry.model_id) or entry.template,
        )
        turn.start()
        yield {page.message: "", **self._drawn_chat(session), **self._chats(session), **self._buttons(running=True)}
        for state in turn.states(DRAW_LONG_EVERY if len(chat.conversation.turns) > _LONG else DRAW_EVERY):
            if chat.running is turn:
                chat.state = state
            if session.current is chat:
                yield self._drawn_chat(session)
        if session.current is chat:
            yield {**self._drawn_chat(session), **self._buttons(running=False)}

    def stop(self, request: gr.Request) -> None:
        """Stop the answer of the shown chat; its last words are drawn by the event that asked."""
        if running := self.session(request).current.running:
            running.stop()

    def new_chat(self, request: gr.Request) -> Updates:
        session = self.session(request)
        session.new_chat()
        return self._shown_chat(session)

    def open_chat(self, number: int | None, request: gr.Request) -> Updates:
        session = self.session(request)
        if number is not None:
            session.open(number)
        return self._shown_chat(session)

    def after_turn(self, request: gr.Request) -> Updates:
        """What changes once an answer has ended: usage, the list of chats, the model's state."""
        session = self.session(request)
        return {**self._usage(session), **self._chats(session), **self._status(session)}

    def leave(self, request: gr.Request) -> None:
        self._sessions.close(str(request.session_hash))

    def _shown_chat(self, session: Session) -> Updates:
        """Everything that shows the current chat."""
        running = session.current.running is not None
        return {
            **self._drawn_chat(session),
            **self._usage(session),
            **self._chats(session),
            **self._buttons(running),
        }

    def _drawn_chat(self, session: Session) -> Updates:
        chat = session.current
        return {self._page.chatbot: chatbot_messages(session.language, chat.conversation, chat.state)}

    def _usage(self, session: Session) -> Updates:
        return {self._page.usage: panels.usage_panel(session.language, session.current.conversation)}

    def _chats(self, session: Session) -> Updates:
        kept = [chat for chat in session.chats if chat.conversation.turns]
        choices = [(_short(chat), chat.number) for chat in kept]
        shown = session.current.number if session.current in kept else None
        return {self._page.chats: gr.Radio(choices=choices, value=shown, visible=bool(kept))}

    def _buttons(self, running: bool) -> Updates:
        return {self._page.send: gr.Button(visible=not running), self._page.stop: gr.Button(visible=running)}

    def session(self, request: gr.Request) -> Session:
        language = language_of(request.headers.get("accept-language"))
        return self._sessions.of(str(request.session_hash), language)


def _short(chat: Chat) -> str:
    title = chat.conversation.title
    return title if len(title) <= 60 else f"{title[:59]}…"


def _spec(entry: ModelEntry) -> ModelSpec:
    return ModelSpec(entry.model_id, entry.name, entry.uri, entry.contract, entry.tracking_uri)


def _seed(text: str) -> int | None:
    """UserError("bad_seed") for what is no whole number below 2³¹."""
    if not text.strip():
        return None
    if not text.strip().isdecimal() or int(text) >= 2**31:
        raise UserError("bad_seed", value=text.strip())
    return int(text)
