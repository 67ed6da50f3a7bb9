"""Pick a model, see whether it is loaded, read its card."""

import gradio as gr

from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.handlers.export import ExportController
from phi3_ui.ui.page.components import CardSection, HeaderSection, Page, StatusSection
from phi3_ui.ui.page.events import NOTIFYING, QUIET, STREAMING
from phi3_ui.ui.page.scripts import KEEP_FOLDS_JS, module_js
from phi3_ui.ui.page.texts import I18N, browser_texts

_BUTTON_TEXTS = ["model", "models.none", "add"]
_MENU_TEXTS = ["models.choose", "models.filter", "models.none_found", "refresh", "add"]
_HEADER_TEXTS = ["compare", "compare.off", "save_chat", "save_chat.off"]


def create_header() -> HeaderSection:
    """Create the model button with its chips, the menu that it opens, and the buttons on the right."""
    picker = gr.Textbox("", visible="hidden", max_lines=1, label=I18N("model"), elem_id="phi3-picker")
    line = _create_html(None, "models/button.js", _BUTTON_TEXTS, "phi3-status")
    menu = _create_html([], "models/menu.js", _MENU_TEXTS, "phi3-menu")
    refresh = gr.Button(visible="hidden", elem_id="phi3-refresh")
    actions = _create_html(None, "models/header.js", _HEADER_TEXTS, "phi3-header-actions")
    return HeaderSection(picker, line, menu, refresh, actions)


def create_card(header: HeaderSection) -> tuple[StatusSection, CardSection]:
    """Create the model card with the model's buttons."""
    t = I18N
    panel = gr.HTML(
        js_on_load=module_js("models/card.js", browser_texts(["copied"])), padding=False, elem_id="phi3-card"
    )
    cache = gr.HTML(js_on_load=KEEP_FOLDS_JS, padding=False, elem_id="phi3-cache")
    with gr.Row(elem_id="phi3-card-buttons"):
        unload = gr.Button(t("unload"), size="sm", min_width=80, interactive=False, elem_id="phi3-unload")
        approve = gr.Button(visible="hidden", elem_id="phi3-approve")
        forget = gr.Button(t("remote.forget"), size="sm", min_width=80, visible=False, elem_id="phi3-forget")
        relog = gr.Button(t("relog"), size="sm", min_width=80, visible=False, elem_id="phi3-relog")
    return StatusSection(header.line, header.menu, cache, header.refresh, unload), CardSection(
        panel, relog, forget, approve
    )


def wire(page: Page, chat: ChatController, exports: ExportController) -> None:
    """Connect picking, loading, unloading, the periodic status, and saving the chat."""
    models, status = chat.models, page.status
    status.refresh.click(models.list_models, None, page.menu_outputs, **QUIET)
    status.unload.click(models.unload, None, page.status_outputs, **NOTIFYING)
    page.header.actions.click(exports.save_shown, None, page.export.download, **NOTIFYING)
    page.browser.status_ticker.tick(
        chat.status,
        None,
        [
            *page.status_outputs,
            *page.card_outputs,
            *(
                page.chat.warning,
                page.chat.messages,
                page.chat.running,
                page.conversations.chat_list,
                page.conversations.footer,
                page.usage.panel,
            ),
        ],
        **QUIET,
    )
    page.card.approve.click(
        models.approve,
        page.picker,
        [*page.menu_outputs, *page.card_outputs, page.status.cache, page.status.unload, page.composer.context],
        **STREAMING,
    )
    page.picker.change(
        models.pick,
        page.picker,
        [*page.card_outputs, *page.status_outputs, page.composer.context],
        trigger_mode="multiple",
        **STREAMING,
    )


def _create_html(value: object, module: str, texts: list[str], elem_id: str) -> gr.HTML:
    """Create a component whose value a module of static/ draws."""
    return gr.HTML(
        value,
        html_template="",
        js_on_load=module_js(module, browser_texts(texts)),
        apply_default_css=False,
        padding=False,
        elem_id=elem_id,
    )
