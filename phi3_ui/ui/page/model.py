"""Pick a model, see whether it is loaded, read its card."""

import gradio as gr

from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.page.components import CardSection, Page, StatusSection
from phi3_ui.ui.page.events import QUIET, STREAMING
from phi3_ui.ui.page.texts import I18N


def create_picker() -> gr.Dropdown:
    """Create the model picker."""
    picker = gr.Dropdown(choices=[], label=I18N("model"), show_label=False, container=False, elem_id="phi3-picker")
    # A page may outlive a restart of the server, or be a program: its value is looked up in the store, not among the
    # choices that this session was last given.
    picker.allow_custom_value = True
    return picker


def create_status() -> gr.HTML:
    """Create the status line."""
    return gr.HTML(elem_id="phi3-status")


def create_card(status: gr.HTML) -> tuple[StatusSection, CardSection]:
    """Create the model card with the model's buttons. `status` is the status line."""
    t = I18N
    panel = gr.HTML(elem_id="phi3-card")
    with gr.Row():
        refresh = gr.Button(t("refresh"), size="sm", min_width=80, elem_id="phi3-refresh")
        unload = gr.Button(t("unload"), size="sm", min_width=80, interactive=False, elem_id="phi3-unload")
        relog = gr.Button(t("relog"), size="sm", min_width=80, visible=False, elem_id="phi3-relog")
    return StatusSection(status, refresh, unload), CardSection(panel, relog)


def wire(page: Page, chat: ChatController) -> None:
    """Connect picking, loading, unloading and the periodic status."""
    models, status = chat.models, page.status
    status.refresh.click(models.list_models, None, [page.picker, status.line], **QUIET)
    status.unload.click(models.unload, None, page.status_outputs, **QUIET)
    page.browser.status_ticker.tick(
        chat.status,
        None,
        [
            *page.status_outputs,
            *page.card_outputs,
            *(page.chat.warning, page.chat.messages, page.conversations.chat_list, page.usage.panel),
        ],
        **QUIET,
    )
    page.picker.change(
        models.pick,
        page.picker,
        [*page.card_outputs, *page.status_outputs, page.chat.context],
        trigger_mode="multiple",
        **STREAMING,
    )
