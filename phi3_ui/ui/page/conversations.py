"""The list of chats: search, open, start a new one."""

import gradio as gr

from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.page.components import ConversationsSection, Page
from phi3_ui.ui.page.events import QUIET
from phi3_ui.ui.page.scripts import CLOSE_DRAWERS_JS
from phi3_ui.ui.page.texts import I18N


def create() -> ConversationsSection:
    """Create the chat list with its search field."""
    return ConversationsSection(
        new_chat=gr.Button(I18N("new_chat"), variant="primary", elem_id="phi3-new"),
        search=gr.Textbox(
            label=I18N("search"),
            show_label=False,
            placeholder=I18N("search"),
            max_lines=1,
            container=False,
            elem_id="phi3-search",
        ),
        chat_list=gr.HTML(elem_id="phi3-chats"),
    )


def wire(page: Page, chat: ChatController) -> None:
    """Connect the search and the button of a new chat."""
    section = page.conversations
    section.search.change(chat.search, section.search, section.chat_list, trigger_mode="always_last", **QUIET)
    shown = section.new_chat.click(
        chat.new_chat, page.chat.comment, [page.composer.message, *page.chat_outputs], **QUIET
    )
    shown.then(None, None, None, js=CLOSE_DRAWERS_JS)
