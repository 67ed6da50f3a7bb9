"""Token usage of the shown chat, and the view of all the user's usage."""

from collections.abc import Iterable

import gradio as gr
from gradio.events import Dependency

from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.handlers.usage_overview import UsageOverview
from phi3_ui.ui.page.components import Page, UsageSection
from phi3_ui.ui.page.events import QUIET
from phi3_ui.ui.page.scripts import KEEP_FOLDS_JS, view_js


def create(overview: gr.HTML) -> UsageSection:
    """Create the usage tab. `overview` is the view of all usage."""
    panel = gr.HTML(elem_id="phi3-usage", apply_default_css=False, padding=False, js_on_load=KEEP_FOLDS_JS)
    return UsageSection(panel, overview)


def create_overview() -> gr.HTML:
    """Create the view of all usage, which covers the chat while it is not empty."""
    return gr.HTML("", elem_id="phi3-usage-view", apply_default_css=False, padding=False, js_on_load=view_js("usage"))


def refresh_after_answers(
    page: Page, chat: ChatController, overview: UsageOverview, answered: Iterable[Dependency]
) -> None:
    """Update usage, chat list and model status after each event that may have asked a question."""
    outputs = [page.usage.panel, page.composer.context, page.conversations.chat_list, *page.status_outputs]
    for event in answered:
        refreshed = event.then(chat.after_turn, None, outputs, **QUIET)
        drawn = refreshed.then(overview.refresh, None, page.usage.overview, **QUIET)
        drawn.then(overview.close_again, None, page.usage.overview, **QUIET)
