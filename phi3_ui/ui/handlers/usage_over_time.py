"""The charts of usage: of the shown chat, and of all chats of a person; drawn while their panel is open."""

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
        self._session(request).charts = True
        yield from self.refresh(request)

    def close(self, request: gr.Request) -> None:
        self._session(request).charts = False

    def refresh(self, request: gr.Request) -> Iterator[Updates]:
        session = self._session(request)
        if not session.charts:
            yield {self._section.totals: gr.skip()}
            return
        try:
            figures = self._history.list_turn_metrics(session.person)
        except UserError as error:
            gr.Warning(tr_error(session.language, error))
            yield {self._section.totals: gr.skip()}
            return
        language, turns = session.language, [turn.id for turn in session.current.conversation.turns]
        yield {self._section.totals: render_totals(language, figures)}
        first = plot_updates(language, self._section.chat_plots, chat_frames(language, figures, turns))
        second = plot_updates(language, self._section.model_plots, model_frames(language, figures))
        for one, other in zip(first, second, strict=True):
            yield {**one, **other}
