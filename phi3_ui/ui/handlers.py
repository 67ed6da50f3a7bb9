"""Browser event → service → component-keyed updates. No layout, no HTML."""

import os
from collections.abc import Iterator
from typing import Any

import gradio as gr

from phi3_ui.chat.service import RunningTurn
from phi3_ui.chat.types import GenerationParams
from phi3_ui.errors import UserError
from phi3_ui.host.pool import Pool
from phi3_ui.settings import Settings
from phi3_ui.setup import Setup
from phi3_ui.store.catalogue import Catalogue
from phi3_ui.ui import panels
from phi3_ui.ui.convert import chatbot_messages
from phi3_ui.ui.i18n import language_of, tr, tr_error
from phi3_ui.ui.page import Page, Updates
from phi3_ui.ui.picking import Picking
from phi3_ui.ui.sessions import Chat, Session, Sessions

# Seconds between drawings of an answer; its first words and its end are drawn at once. Each drawing costs the server
# and the browser time that grows with the chat, and where they share few cores with the model it costs tokens: see
# bench/README.md.
DRAW_EVERY = 0.05 if (os.cpu_count() or 1) >= 4 else 0.2
DRAW_LONG_EVERY = 2 * DRAW_EVERY
_LONG = 50  # turns


class Handlers:
    def __init__(
        self, page: Page, settings: Settings, catalogue: Catalogue, pool: Pool, setup: Setup, sessions: Sessions
    ) -> None:
        self.models = Picking(page, settings, catalogue, pool, self.session)
        self._page = page
        self._settings = settings
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
            models = self.models.list_models(request)
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
            lambda: self._pool.model(self.models.spec(entry)),
            panels.answer_label(session.language, entry),
            system,
            # What a model does not take is shown as off: it is not sent.
            GenerationParams(**{name: value for name, value in given.items() if name in entry.honours}),
            chat.keep,
            session.templates.get(entry.model_id) or entry.template,
            self._settings.answer_seconds,
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
        """What changes once an answer has ended: usage, context, the list of chats, the model's state."""
        session = self.session(request)
        return {
            **self._usage(session),
            **self._chats(session),
            **self.models.status_of(session),
            **self.models.context_of(session),
        }

    def leave(self, request: gr.Request) -> None:
        self._sessions.close(str(request.session_hash))

    def _shown_chat(self, session: Session) -> Updates:
        """Everything that shows the current chat."""
        running = session.current.running is not None
        return {
            **self._drawn_chat(session),
            **self._usage(session),
            **self.models.context_of(session),
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


def _seed(text: str) -> int | None:
    """UserError("bad_seed") for what is no whole number below 2³¹."""
    if not text.strip():
        return None
    if not text.strip().isdecimal() or int(text) >= 2**31:
        raise UserError("bad_seed", value=text.strip())
    return int(text)
