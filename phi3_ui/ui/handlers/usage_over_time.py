"""The usage charts: of the shown chat, and of all chats of the user; drawn while their panel is open."""

from collections.abc import Callable, Iterator

import gradio as gr

from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr_error
from phi3_ui.store.conversations.history import History
from phi3_ui.ui.page.components import Updates, UsageSection
from phi3_ui.ui.page.usage_plots import plot_updates
from phi3_ui.ui.render.usage_charts import chat_frames, model_frames, render_totals
from phi3_ui.ui.sessions import Session


class UsageOverTime:
    """Draws the charts."""

    def __init__(
        self,
        history: History,
        section: UsageSection,
        session: Callable[[gr.Request], Session],
    ) -> None:
        self._history = history
        self._section = section
        self._session = session

    def open(self, request: gr.Request) -> Iterator[Updates]:
        """The panel was opened."""
        self._session(request).panels.charts_open = True
        yield from self.refresh(request)

    def close(self, request: gr.Request) -> None:
        """The panel was closed."""
        self._session(request).panels.charts_open = False

    def refresh(self, request: gr.Request) -> Iterator[Updates]:
        """Draw the charts again if their panel is open."""
        session = self._session(request)
        if not session.panels.charts_open:
            yield {self._section.totals: gr.skip()}
            return
        try:
            metrics = self._history.list_turn_metrics(session.user_id)
        except UserError as error:
            gr.Warning(tr_error(session.language, error))
            yield {self._section.totals: gr.skip()}
            return
        language, turns = session.language, [turn.id for turn in session.current.conversation.turns]
        yield {self._section.totals: render_totals(language, metrics)}
        first = plot_updates(language, self._section.chat_plots, chat_frames(language, metrics, turns))
        second = plot_updates(language, self._section.model_plots, model_frames(language, metrics))
        for one, other in zip(first, second, strict=True):
            yield {**one, **other}
