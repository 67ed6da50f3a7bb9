"""The conversation, the lines below it, and the comment on a rated answer."""

import gradio as gr
from gradio.events import Dependency

from phi3_ui.i18n.translate import BROWSER_TEXTS
from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.page.components import ChatSection, Page
from phi3_ui.ui.page.events import QUIET, STREAMING
from phi3_ui.ui.page.scripts import CLOSE_WARNING_JS, COMPOSE_DRAFT_JS, RUNNING_JS, chat_js
from phi3_ui.ui.page.texts import I18N, browser_texts
from phi3_ui.ui.starters import STARTERS

_TEXTS = [
    *("chat", "chat_not_loaded", "copy_message", "copy_code", "copied", "wrap_code", "jump_to_latest"),
    *("question", "answer", "answered", "answer_actions", "actions.more"),
    *("edit_field", "edit_save", "cancel", "empty.title", "empty.about"),
]
"""Keys of the texts that static/chat/ shows; the texts of messages are sent with the messages."""


def _list_starters() -> dict[str, list[dict[str, str]]]:
    """Return the buttons of an empty chat, by language."""
    return {
        language: [
            {"value": name, "title": texts[starter.title], "about": texts[starter.about]}
            for name, starter in STARTERS.items()
        ]
        for language, texts in BROWSER_TEXTS.items()
    }


def create() -> ChatSection:
    """Create the messages and the components below them."""
    t = I18N
    messages = gr.HTML(
        "[]",
        label=t("chat"),
        html_template="",
        js_on_load=chat_js(browser_texts(_TEXTS), _list_starters()),
        apply_default_css=False,
        elem_id="phi3-chat",
    )
    running = gr.HTML(visible="hidden", html_template="", js_on_load=RUNNING_JS, elem_id="phi3-running")
    warning = gr.HTML(js_on_load=CLOSE_WARNING_JS, apply_default_css=False, elem_id="phi3-warning")
    with gr.Group(visible=False, elem_id="phi3-comment") as comment_group, gr.Row():
        comment = gr.Textbox(
            label=t("comment"), show_label=False, placeholder=t("comment"), max_lines=3, container=False, scale=5
        )
        keep_comment = gr.Button(t("comment.keep"), size="sm", scale=0, min_width=80)
    return ChatSection(messages, running, warning, comment_group, comment, keep_comment)


def wire(page: Page, chat: ChatController) -> Dependency:
    """Connect the action buttons; return the event that ends when an action is complete, including its answer if any."""
    section, message = page.chat, page.composer.message
    acted: Dependency = page.browser.actions.click(
        chat.act,
        [message, page.picker, section.comment],
        [
            *(message, section.comment, page.program, page.export.download, *page.chat_outputs),
            *(page.settings.system, *page.settings.controls.values()),
        ],
        inputs_kwargs=page.settings_inputs,
        js=COMPOSE_DRAFT_JS,
        trigger_mode="multiple",
        **STREAMING,
    )
    # A typed comment is also saved when the next question is sent without pressing Save.
    ends_comment = [section.comment.submit, section.keep_comment.click, message.submit, page.composer.send.click]
    gr.on(ends_comment, chat.comment, section.comment, section.comment_group, **QUIET)
    return acted
