"""Token usage of the shown chat, and charts over all chats."""

from collections.abc import Iterable

import gradio as gr
from gradio.events import Dependency

from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.handlers.usage_over_time import UsageOverTime
from phi3_ui.ui.page.components import Page, UsageSection
from phi3_ui.ui.page.events import QUIET, STREAMING
from phi3_ui.ui.page.texts import I18N
from phi3_ui.ui.page.usage_plots import chat_plots, model_plots


def create() -> UsageSection:
    """Create the usage table, and the accordion with charts over time."""
    panel = gr.HTML(elem_id="phi3-usage")
    with gr.Accordion(I18N("usage.over_time"), open=False, elem_id="phi3-over-time") as over_time:
        return UsageSection(panel, over_time, gr.HTML(), chat_plots(), model_plots())


def wire(page: Page, charts: UsageOverTime) -> None:
    """Draw the charts while their accordion is open."""
    section = page.usage
    section.over_time.expand(charts.open, None, section.chart_outputs, **STREAMING)
    section.over_time.collapse(charts.close, None, None, **QUIET)


def refresh_after_answers(
    page: Page, chat: ChatController, charts: UsageOverTime, answered: Iterable[Dependency]
) -> None:
    """Update usage, chat list and model status once an event that may have asked a question has ended."""
    outputs = [page.usage.panel, page.chat.context, page.conversations.chat_list, *page.status_outputs]
    for event in answered:
        refreshed = event.then(chat.after_turn, None, outputs, **QUIET)
        refreshed.then(charts.refresh, None, page.usage.chart_outputs, **STREAMING)


def refresh_charts_after(page: Page, charts: UsageOverTime, events: Iterable[Dependency]) -> None:
    """Redraw the charts once one of `events` has shown another chat."""
    for event in events:
        event.then(charts.refresh, None, page.usage.chart_outputs, **STREAMING)
