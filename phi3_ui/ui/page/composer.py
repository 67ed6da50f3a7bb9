"""The message box, Send and Stop."""

import gradio as gr
from gradio.events import Dependency

from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.page.components import ComposerSection, Page
from phi3_ui.ui.page.events import QUIET, STREAMING
from phi3_ui.ui.page.scripts import RELEASE_MESSAGE_JS, SETTLE_MESSAGE_JS, TAKE_MESSAGE_JS
from phi3_ui.ui.page.texts import I18N


def create() -> ComposerSection:
    """Create the message row."""
    t = I18N
    with gr.Row(elem_id="phi3-composer"):
        message = gr.Textbox(
            label=t("message"),
            show_label=False,
            placeholder=t("message_placeholder"),
            lines=1,
            max_lines=8,
            autofocus=True,
            container=False,
            scale=5,
            elem_id="phi3-message",
        )
        send = gr.Button(t("send"), variant="primary", scale=0, elem_id="phi3-send")
        stop = gr.Button(t("stop"), variant="stop", scale=0, visible=False, elem_id="phi3-stop")
    return ComposerSection(message, send, stop)


def wire(page: Page, chat: ChatController) -> Dependency:
    """The event that ends with the answer."""
    composer = page.composer
    composer.stop.click(chat.stop, None, None, **QUIET)
    answered: Dependency = gr.on(
        [composer.message.submit, composer.send.click],
        chat.send,
        [composer.message, page.picker],
        [
            *(composer.message, composer.send, composer.stop),
            *(page.chat.messages, page.chat.editing, page.conversations.chat_list, page.reproduce.panel),
        ],
        inputs_kwargs=page.settings_inputs,
        trigger_mode="multiple",
        js=TAKE_MESSAGE_JS,
        **STREAMING,
    )
    answered.then(None, None, None, js=RELEASE_MESSAGE_JS)
    composer.message.change(None, composer.message, None, js=SETTLE_MESSAGE_JS)
    return answered
