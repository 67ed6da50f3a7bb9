"""The page's one public endpoint, /chat, for `gradio_client`."""

import gradio as gr

from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.page.components import EndpointSection, Page
from phi3_ui.ui.page.events import STREAMING


def create() -> EndpointSection:
    """Create the hidden components that the endpoint needs."""
    return EndpointSection(trigger=gr.Button(visible=False), messages=gr.JSON(visible=False))


def wire(page: Page, chat: ChatController) -> None:
    """Offer Send as an endpoint whose outputs are data: the remaining text of the message box, and the messages."""
    section, message = page.endpoint, page.composer.message
    section.trigger.click(
        chat.answer,
        [message, page.picker],
        [message, section.messages],
        inputs_kwargs=page.settings_inputs,
        trigger_mode="multiple",
        **{**STREAMING, "api_visibility": "public", "api_name": "chat"},
    )
