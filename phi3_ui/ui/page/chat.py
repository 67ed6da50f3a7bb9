"""The conversation, the lines below it, and the comment on a rated answer."""

import gradio as gr
from gradio.events import Dependency

from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.page.components import ChatSection, Page
from phi3_ui.ui.page.events import QUIET, STREAMING
from phi3_ui.ui.page.scripts import SHOW_SNIPPET_JS, chat_js
from phi3_ui.ui.page.texts import I18N, browser_texts


def create() -> ChatSection:
    """Create the messages and the components below them."""
    t = I18N
    messages = gr.HTML(
        [],
        label=t("chat"),
        html_template="",
        js_on_load=chat_js(
            browser_texts(["chat", "placeholder", "copy_message", "copy_code", "copied", "chat_not_loaded"])
        ),
        apply_default_css=False,
        elem_id="phi3-chat",
    )
    warning = gr.HTML(elem_id="phi3-warning")
    editing = gr.HTML(elem_id="phi3-editing")
    with gr.Group(visible=False, elem_id="phi3-comment") as comment_group, gr.Row():
        comment = gr.Textbox(
            label=t("comment"), show_label=False, placeholder=t("comment"), max_lines=3, container=False, scale=5
        )
        keep_comment = gr.Button(t("comment.keep"), size="sm", scale=0, min_width=80)
    return ChatSection(messages, warning, editing, comment_group, comment, keep_comment)


def wire(page: Page, chat: ChatController) -> Dependency:
    """The event that ends once an action button has done its work, with the answer if it asked for one."""
    section, message = page.chat, page.composer.message
    acted: Dependency = page.browser.actions.click(
        chat.act,
        [page.picker, section.comment, message],
        [
            *(message, section.comment, page.reproduce.snippet, page.export.download, *page.chat_outputs),
            *(page.settings.system, *page.settings.controls.values()),
        ],
        inputs_kwargs=page.settings_inputs,
        trigger_mode="multiple",
        **STREAMING,
    )
    acted.then(None, None, None, js=SHOW_SNIPPET_JS)
    # A comment that was typed is saved also when the next question is sent without pressing Keep.
    ends_comment = [section.comment.submit, section.keep_comment.click, message.submit, page.composer.send.click]
    gr.on(ends_comment, chat.comment, section.comment, section.comment_group, **QUIET)
    return acted
