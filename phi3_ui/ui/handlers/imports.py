"""Shows the progress and the result of an import."""

from collections.abc import Callable

import gradio as gr

from phi3_ui.errors import UserError
from phi3_ui.ui.chat_state import Chat
from phi3_ui.ui.handlers.conversations import ConversationController
from phi3_ui.ui.imports import ImportJob
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.imports import render_import
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Session

_FIRST_WAIT = 1.0  # seconds; most imports end within it


class ImportController:
    """Handlers of the panel that static/import.js draws."""

    def __init__(
        self,
        page: Page,
        services: Services,
        chats: ConversationController,
        session: Callable[[gr.Request], Session],
    ) -> None:
        self._page = page
        self._imports = services.imports
        self._history = services.conversations.history
        self._chats = chats
        self._session = session

    def begin(self, request: gr.Request) -> Updates:
        """Show an import that has just started."""
        if job := self._imports.find(self._session(request).user_id):
            job.wait(_FIRST_WAIT)
        return self.tick(request)

    def tick(self, request: gr.Request) -> Updates:
        """Show the user's import. Once it has ended, list its chats, and show the first one if the shown chat is empty."""
        session, section = self._session(request), self._page.export
        job = self._imports.find(session.user_id)
        if job is None or job is session.panels.closed_import:
            return {section.progress: None, section.ticker: gr.Timer(active=False)}
        state = job.state
        updates = {
            section.progress: render_import(session.language, state),
            section.ticker: gr.Timer(active=not state.is_finished),
        }
        if state.is_finished and session.panels.listed_import is not job:
            session.panels.listed_import = job
            updates |= self._show_result(session, job)
        return updates

    def act(self, request: gr.Request, event: gr.EventData) -> Updates:
        """Cancel the import; if it has ended, close the panel that shows its result."""
        session = self._session(request)
        if job := self._imports.find(session.user_id):
            if job.state.is_finished:
                session.panels.closed_import = job
            else:
                job.cancel()
                job.wait(_FIRST_WAIT)
        return self.tick(request)

    def _show_result(self, session: Session, job: ImportJob) -> Updates:
        chat, first_id = session.current, job.state.first_id
        if first_id and not chat.conversation.tree and not chat.is_busy:
            try:
                session.show(Chat(first_id, self._history.load(session.user_id, first_id)))
            except UserError:  # deleted meanwhile, or the store does not respond; the list shows it
                return self._chats.list_chats(session)
            return self._chats.show_chat(session)
        return self._chats.list_chats(session)
