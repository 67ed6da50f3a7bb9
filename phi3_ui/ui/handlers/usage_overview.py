"""The view of all the user's usage."""

import logging
from collections.abc import Callable

import gradio as gr

from phi3_ui.errors import UserError
from phi3_ui.store.conversations.history import History
from phi3_ui.ui.handlers.conversations import ConversationController
from phi3_ui.ui.page.components import Page, Updates
from phi3_ui.ui.render.usage_overview import render_usage_overview
from phi3_ui.ui.sessions import Session

logger = logging.getLogger(__name__)


class UsageOverview:
    """Draws the view; the action "usage" opens it, "close_usage" closes it."""

    def __init__(
        self,
        page: Page,
        history: History,
        chats: ConversationController,
        session: Callable[[gr.Request], Session],
    ) -> None:
        self._page = page
        self._history = history
        self._session = session
        chats.actions["usage"] = lambda session, _: self.open(session)
        chats.actions["close_usage"] = lambda session, _: self.close(session)

    def open(self, session: Session) -> Updates:
        """Show the view.

        Raises:
            UserError: The store does not respond.
        """
        session.panels.usage_open = True
        return self._draw(session)

    def close(self, session: Session) -> Updates:
        """Show the chat again."""
        session.panels.usage_open = False
        return {self._page.usage.overview: ""}

    def refresh(self, request: gr.Request) -> Updates:
        """Redraw the view if it is open."""
        session = self._session(request)
        unchanged: Updates = {self._page.usage.overview: gr.skip()}
        if not session.panels.usage_open:
            return unchanged
        try:
            updates = self._draw(session)
        except UserError as error:
            logger.info("The usage is not refreshed: %s", error)
            return unchanged
        return updates if session.panels.usage_open else unchanged  # closed while it was drawn

    def close_again(self, request: gr.Request) -> Updates:
        """Close the view again if it was closed while an update of `refresh` was in flight, which would have reopened it."""
        is_open = self._session(request).panels.usage_open
        return {self._page.usage.overview: gr.skip() if is_open else ""}

    def _draw(self, session: Session) -> Updates:
        metrics = self._history.list_turn_metrics(session.user_id)
        overview = render_usage_overview(session.language, metrics, session.current.conversation)
        return {self._page.usage.overview: overview}
