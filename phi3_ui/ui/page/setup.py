"""The first run's progress, and what a page does when it loads."""

import gradio as gr
from gradio.events import Dependency

from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.page.components import Page, SetupSection
from phi3_ui.ui.page.events import QUIET, STREAMING
from phi3_ui.ui.page.scripts import (
    GUARD_INPUT_JS,
    KEEP_STREAM_JS,
    MARK_SETUP_JS,
    READ_BROWSER_JS,
    SET_DIRECTIONS_JS,
    translate_toasts_js,
)
from phi3_ui.ui.page.texts import I18N, browser_texts

_PROGRESS_SECONDS = 0.5


def create() -> SetupSection:
    """Create the view of the first run."""
    with gr.Column(elem_id="phi3-setup-view") as view:
        panel = gr.HTML(apply_default_css=False, padding=False, js_on_load=MARK_SETUP_JS)
        retry = gr.Button(I18N("retry_setup"), visible=False)
    return SetupSection(view, panel, retry, gr.Timer(_PROGRESS_SECONDS))


def wire(page: Page, chat: ChatController, blocks: gr.Blocks) -> Dependency:
    """Connect the view; return the event that ends with an answer that continued while the page was reloaded."""
    setup, browser = page.setup, page.browser
    ready_outputs = [
        *(setup.view, setup.panel, setup.retry, setup.ticker),
        *(page.chat_view, *page.menu_outputs, page.composer.message),
        *(page.settings.system, *page.settings.controls.values()),
        *page.chat_outputs,
    ]
    inputs = [browser.visitor_token, browser.tab_state]
    blocks.load(None, None, None, js=KEEP_STREAM_JS)
    blocks.load(None, None, None, js=GUARD_INPUT_JS)
    blocks.load(None, None, None, js=SET_DIRECTIONS_JS)
    toasts_js = translate_toasts_js(browser_texts(["notice.info", "notice.warning", "close"]))
    blocks.load(None, None, None, js=toasts_js)
    setup.ticker.tick(chat.tick, inputs, ready_outputs, js=READ_BROWSER_JS, **QUIET)
    setup.retry.click(chat.retry_setup, inputs, ready_outputs, js=READ_BROWSER_JS, **QUIET)
    loaded = blocks.load(chat.tick, inputs, ready_outputs, js=READ_BROWSER_JS, **QUIET)
    resumed: Dependency = loaded.then(
        chat.resume, None, [page.composer.message, *page.chat_outputs], trigger_mode="multiple", **STREAMING
    )
    return resumed
