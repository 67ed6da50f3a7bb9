"""The hidden components through which the browser talks to the server."""

import gradio as gr

from phi3_ui.ui.page.components import BrowserSection
from phi3_ui.ui.page.scripts import ACTIONS_JS

_STATUS_SECONDS = 4.0  # changes made by another server are shown within 5 s


def create() -> BrowserSection:
    """Create the hidden components."""
    return BrowserSection(
        visitor_token=gr.Textbox(visible=False),
        tab_state=gr.JSON(visible=False),
        actions=gr.HTML(visible="hidden", js_on_load=ACTIONS_JS, elem_id="phi3-actions"),
        status_ticker=gr.Timer(_STATUS_SECONDS),
    )
