"""The composer below the chat: the text, the tools, and Send and Stop in the same place."""

import gradio as gr
from gradio.events import Dependency

from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.page.components import ComposerSection, Page
from phi3_ui.ui.page.events import QUIET, STREAMING
from phi3_ui.ui.page.presets import build_settings_table, list_preset_texts
from phi3_ui.ui.page.scripts import RELEASE_MESSAGE_JS, SETTLE_MESSAGE_JS, TAKE_MESSAGE_JS, module_js
from phi3_ui.ui.page.texts import I18N, browser_texts

_TEXTS = (
    *("message_placeholder", "send", "stop", "attach", "attach.remove", "attach.drop"),
    *("attach.not_text", "attach.unreadable", "attach.too_large"),
    *("composer.preset", "settings.changed", "composer.all_settings", "system_prompt", "system.none", "system.own"),
    *("shortcuts", "shortcuts.close", "shortcuts.send", "shortcuts.line", "shortcuts.stop", "shortcuts.new"),
    *("shortcuts.edit", "shortcuts.sheet", "shortcuts.ctrl"),
)


def create() -> ComposerSection:
    """Create the composer."""
    t = I18N
    texts = {
        language: {**texts, **list_preset_texts()[language]} for language, texts in browser_texts([*_TEXTS]).items()
    }
    with gr.Row(elem_id="phi3-composer"):
        message = gr.Textbox(
            label=t("message"),
            show_label=False,
            placeholder=t("message_box"),
            lines=1,
            max_lines=8,
            autofocus=True,
            container=False,
            elem_id="phi3-message",
        )
        tools = gr.HTML(
            {},
            html_template="",
            js_on_load=module_js("composer/composer.js", texts, build_settings_table()),
            apply_default_css=False,
            elem_id="phi3-tools",
        )
        context = gr.HTML(js_on_load=None, apply_default_css=False, elem_id="phi3-context")
        # Both always exist, in the same place; the style sheet shows one of them.
        send = gr.Button(t("send"), variant="primary", elem_id="phi3-send")
        stop = gr.Button(t("stop"), variant="stop", elem_id="phi3-stop")
    hint = gr.HTML(elem_id="phi3-hint", padding=False)
    return ComposerSection(message, tools, context, send, stop, hint)


def wire(page: Page, chat: ChatController) -> Dependency:
    """Connect the composer; return the event that ends with the answer."""
    composer = page.composer
    composer.stop.click(chat.stop, None, None, **QUIET)
    # Not "always_last": a delayed event would carry the data of the one before it.
    composer.tools.input(chat.count_draft, page.settings.system, composer.context, trigger_mode="multiple", **QUIET)
    answered: Dependency = gr.on(
        [composer.message.submit, composer.send.click],
        chat.send,
        [composer.message, page.picker],
        [
            *(composer.message, composer.tools),
            *(page.chat.messages, page.chat.running, page.conversations.chat_list),
        ],
        inputs_kwargs=page.settings_inputs,
        trigger_mode="multiple",
        js=TAKE_MESSAGE_JS,
        **STREAMING,
    )
    answered.then(None, None, None, js=RELEASE_MESSAGE_JS)
    answered.failure(None, None, None, js=RELEASE_MESSAGE_JS)  # Gradio does not call `then` if it rejects the values
    composer.message.change(None, composer.message, None, js=SETTLE_MESSAGE_JS)
    return answered
