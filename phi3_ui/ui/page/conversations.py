"""The conversations: search, open or start one, and actions that concern all of them."""

import gradio as gr
from markupsafe import Markup

from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.page.components import ConversationsSection, Page
from phi3_ui.ui.page.events import NOTIFYING, QUIET
from phi3_ui.ui.page.scripts import CLOSE_DRAWERS_JS, conversations_js, new_chat_js
from phi3_ui.ui.page.texts import I18N, browser_texts
from phi3_ui.ui.render.icons import icon

_NEW_CHAT = Markup('<button id="phi3-new">{}<span></span><kbd aria-hidden="true"></kbd></button>')
_TEXTS = [
    "chats.title",
    "chats.pin",
    "chats.unpin",
    "chats.rename",
    "chats.delete",
    "share",
    "share.markdown",
    "share.json",
    "share.all",
    "share.import",
    "replay",
    "preferences",
    "preferences.theme",
    "preferences.language",
    "theme.system",
    "theme.light",
    "theme.dark",
]


def create() -> ConversationsSection:
    """Create the chat list with its search field."""
    return ConversationsSection(
        new_chat=gr.HTML(
            _NEW_CHAT.format(icon("edit")),
            js_on_load=new_chat_js(browser_texts(["new_chat"])),
            apply_default_css=False,
            padding=False,
        ),
        search=gr.Textbox(
            label=I18N("search"),
            show_label=False,
            placeholder=I18N("search"),
            max_lines=1,
            container=False,
            elem_id="phi3-search",
        ),
        chat_list=gr.HTML(
            js_on_load=conversations_js(browser_texts(_TEXTS)),
            apply_default_css=False,
            padding=False,
            elem_id="phi3-chats",
        ),
        footer=gr.HTML(apply_default_css=False, padding=False, elem_id="phi3-footer"),
    )


def wire(page: Page, chat: ChatController) -> None:
    """Connect the search, the list, and the button for a new chat."""
    section = page.conversations
    section.search.change(chat.search, section.search, section.chat_list, trigger_mode="always_last", **QUIET)
    # Not "always_last": a delayed event would carry the data of the one before it.
    section.chat_list.input(chat.list_from, None, section.chat_list, trigger_mode="multiple", **QUIET)
    section.chat_list.edit(chat.rename, None, section.chat_list, trigger_mode="multiple", **NOTIFYING)
    shown = section.new_chat.click(
        chat.new_chat,
        page.chat.comment,
        [page.composer.message, *page.settings_inputs.values(), *page.chat_outputs],
        **QUIET,
    )
    shown.then(None, None, None, js=CLOSE_DRAWERS_JS)
