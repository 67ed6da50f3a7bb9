"""Events of the page as a whole: loading, closing, the composer, the action buttons and the periodic refresh."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from phi3_ui.accounts.address import normalize_address
from phi3_ui.accounts.gpu_quota import read_gpu_token
from phi3_ui.chat.conversation import Conversation
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import detect_language
from phi3_ui.provision.jobs import JobState
from phi3_ui.ui.connections import identify_client
from phi3_ui.ui.handlers.answers import AnswerController, AnswerStarter
from phi3_ui.ui.handlers.conversations import Action, ConversationController
from phi3_ui.ui.handlers.event_fields import read_fields
from phi3_ui.ui.handlers.model_picker import ModelPicker
from phi3_ui.ui.handlers.settings import restore_settings_of_chat
from phi3_ui.ui.handlers.tab_state import TabStateRestorer, find_tab
from phi3_ui.ui.notices import show_warning
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.job_progress import render_setup
from phi3_ui.ui.render.messages import ChatMessage, decode_messages, with_running
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Session
from phi3_ui.ui.starters import STARTERS


class ChatController:
    """Finds the session of each event and passes the event on to the controller of its topic."""

    def __init__(self, page: Page, services: Services) -> None:
        self.models = ModelPicker(page, services, self.session)
        self.chats = ConversationController(page, services, self.models)
        self.answer_starter = AnswerStarter(services)
        self._answers = AnswerController(page, services, self.models, self.chats, self.answer_starter)
        self._tab_state = TabStateRestorer(page, services, self.chats)
        self._page = page
        self._first_run = services.first_run
        self._mlflow = services.mlflow
        self._pages = services.pages

    def session(self, request: gr.Request) -> Session:
        """Return the session of the page that sent an event."""
        language = detect_language(request.headers.get("accept-language"))
        address = normalize_address(request.client.host if request.client else "")
        session = self._pages.get(str(request.session_hash), language, getattr(request, "username", None), address)
        session.set_address(address)
        session.set_gpu_token(read_gpu_token(request.headers))
        return session

    # Setup

    def tick(self, token: str | None, tab_state: object, request: gr.Request) -> Updates:
        """Show the progress of the first run, and the chat as soon as there is a model to chat with.

        `token` is the secret that identifies a browser without a login, `tab_state` is what static/tab_state.js has saved.
        """
        page, session = self._page, self.session(request)
        session.identify(token)
        if tab := find_tab(tab_state):
            self._pages.claim_tab(str(request.session_hash), session.login, tab, identify_client(request))
        state = self._first_run.state
        updates = self._show_setup(session, state)
        if not state.is_usable:
            return updates
        is_setting_up = not state.is_finished
        if session.set_setting_up(is_setting_up):  # the chat is already shown, and stays as it is
            return updates if is_setting_up else {**updates, **self.models.list_models(request)}
        return {**updates, page.chat_view: gr.Column(visible=True), **self._restore(session, tab_state, request)}

    def _restore(self, session: Session, tab_state: object, request: gr.Request) -> Updates:
        """Restore the tab; return everything that the page shows."""
        with session.restoring:  # the page's load event and its ticker may run concurrently
            # In this order, so that the chat is shown with the selected model.
            restored = {**self._tab_state.restore(session, tab_state), **self.models.list_models(request)}
            shown = self.chats.redraw(session)
            if session.panels.compare_open and session.comparison:
                shown |= self.chats.show_comparison(session, session.comparison)
            return {**restored, **shown}

    def _show_setup(self, session: Session, state: JobState) -> Updates:
        setup, first_run = self._page.setup, self._first_run
        return {
            setup.view: gr.Column(visible=state.phase != "done"),
            setup.panel: render_setup(
                session.language,
                state,
                first_run.title,
                first_run.read_log(),
                session.redact,
                first_run.estimate_seconds_left(),
            ),
            setup.retry: gr.Button(visible=state.phase == "failed"),
            setup.ticker: gr.Timer(active=not state.is_finished),
        }

    def retry_setup(self, token: str | None, tab_state: object, request: gr.Request) -> Updates:
        """Start the first run again."""
        self._first_run.start()
        return self.tick(token, tab_state, request)

    def resume(self, request: gr.Request) -> Iterator[Updates]:
        """Draw the answer that continued while the page was reloaded."""
        yield {self._page.composer.message: gr.skip()}
        yield from self._answers.follow(self.session(request))

    # Composer and action buttons

    def send(self, text: str, key: str | None, request: gr.Request, **values: Any) -> Iterator[Updates]:
        """Ask `text`; `values` are the system prompt and the sampling parameters by name."""
        yield from self._answers.send(self.session(request), text, key, values)

    def answer(self, text: str, key: str | None, request: gr.Request, **values: Any) -> Iterator[Updates]:
        """`send` for programs: yield only the message box and the messages as data."""
        page = self._page
        message, messages = text, list[ChatMessage]()
        for updates in self._answers.send(self.session(request), text, key, values):
            message = updates.get(page.composer.message, message)
            if shown := updates.get(page.chat.messages):
                messages = decode_messages(shown)
            if running := updates.get(page.chat.running):
                messages = with_running(messages, running)
            yield {page.composer.message: message, page.endpoint.messages: messages}
        yield {page.composer.message: message, page.endpoint.messages: messages}

    def act(
        self, draft: str, key: str | None, comment: str, request: gr.Request, event: gr.EventData, **values: Any
    ) -> Iterator[Updates]:
        """Perform an action button of templates/macros.html; `draft` is the composer's content."""
        session = self.session(request)
        name, value, text = (str(read_fields(event).get(part) or "") for part in ("name", "value", "text"))
        try:
            self.chats.save_comment(session, comment)
            if name in ("retry", "edit", "continue", "start"):
                yield self.chats.close_comment(session)
            if name == "retry" or (name == "edit" and text.strip()):
                question = text if name == "edit" else None
                yield from self._answers.ask_variant(session, value, question, key, values)
            elif name == "continue":
                yield from self._answers.continue_answer(session, value, key, values)
            elif name == "start" and (starter := STARTERS.get(value)):
                yield from self._answers.ask_starter(session, starter, key, values)
            else:
                updates = self.chats.perform(session, Action(name, value, draft or ""))
                unchanged = {self._page.composer.message: gr.skip()}
                yield updates or unchanged
                yield from self._answers.follow(session)
                # Gradio sends a generator's last update again at its end, possibly after the next action has drawn its own.
                yield unchanged
        except UserError as error:
            show_warning(session.explain(error))
            yield {self._page.composer.message: gr.skip()}

    def count_draft(self, system: str, request: gr.Request, event: gr.EventData) -> Updates:
        """Show how much of the context is filled by the chat and the draft."""
        return self.models.meter.set_draft(self.session(request), system, event)

    def stop(self, request: gr.Request) -> None:
        """Stop the shown chat's answer; the event that draws the answer also draws its end."""
        self.session(request).current.stop()

    def comment(self, text: str, request: gr.Request) -> Updates:
        """Save the comment on the rated answer, and close the field."""
        return self.chats.finish_comment(self.session(request), text)

    # Chat list

    def new_chat(self, comment: str, request: gr.Request) -> Updates:
        """Show an empty chat with the default settings; settings made in an empty chat are kept."""
        session = self.session(request)
        self.chats.save_comment(session, comment)
        before = session.current.conversation
        updates = self.chats.switch_to(session, None)
        return {**updates, **restore_settings_of_chat(self._page, Conversation())} if before.tree else updates

    def search(self, query: str | None, request: gr.Request) -> Updates:
        """List the chats that match."""
        session = self.session(request)
        session.search_chats(query or "")
        return self.chats.list_chats(session)

    def list_from(self, request: gr.Request, event: gr.EventData) -> Updates:
        """List the chats from the position to which the list was scrolled."""
        session = self.session(request)
        if isinstance(start := read_fields(event).get("start"), int):
            session.list_from(start)
        return self.chats.list_chats(session)

    def rename(self, request: gr.Request, event: gr.EventData) -> Updates:
        """Rename a chat in the list. Not a regular action, because their many outputs would double its time."""
        session = self.session(request)
        chat_id, title = (str(read_fields(event).get(part) or "") for part in ("id", "title"))
        try:
            return self.chats.rename(session, chat_id, title)
        except UserError as error:
            show_warning(session.explain(error))
            return self.chats.list_chats(session)

    # Refresh

    def after_turn(self, request: gr.Request) -> Updates:
        """Refresh what depends on the completed answer: usage, context, the chat list, the model's state."""
        session = self.session(request)
        if not session.is_restored:  # loaded while the app was starting
            return {self._page.usage.panel: gr.skip()}
        return {
            **self.chats.show_usage(session),
            **self.chats.list_chats(session),
            **self.models.show_status(session),
            **self.models.show_context(session),
        }

    def status(self, request: gr.Request) -> Updates:
        """Refresh what changes without an event of this page."""
        session = self.session(request)
        if not session.is_restored:
            # The server was restarted: the page is about to reload, and shows more than this session knows.
            return {self._page.chat.warning: gr.skip()}
        updates = {**self.models.show_status(session), **self.chats.refresh(session)}
        if session.panels.links_shown != (links_shown := self._mlflow.base is not None):
            session.panels.links_shown = links_shown
            updates |= {**self.models.show_card(session), **self.chats.show_usage(session)}
            if not session.current.is_busy:
                updates |= self.chats.draw_chat(session)
        return updates
