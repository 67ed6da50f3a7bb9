"""Evaluations: prompt sets, and the models evaluated on them. Its forms and buttons send their events through static/evaluations.js."""

import gradio as gr

from phi3_ui.ui.handlers.evaluations import EvaluationsController
from phi3_ui.ui.page.components import EvaluationsSection, Page
from phi3_ui.ui.page.events import NOTIFYING, QUIET
from phi3_ui.ui.page.scripts import KEEP_SCROLL_JS, module_js, view_js
from phi3_ui.ui.page.texts import browser_texts

_TEXTS = ["eval.file.not_text", "eval.file.unreadable", "eval.file.too_large"]


def create() -> EvaluationsSection:
    """Create the view, which covers the chat or the view that it was opened from while it is not empty."""
    script = f"{view_js('evaluations')}\n{KEEP_SCROLL_JS}\n{module_js('evaluations.js', browser_texts(_TEXTS))}"
    return EvaluationsSection(
        gr.HTML("", elem_id="phi3-evaluations", apply_default_css=False, padding=False, js_on_load=script)
    )


def wire(page: Page, evaluations: EvaluationsController) -> None:
    """Connect the view; actions.js handles its buttons that open a chat."""
    view = page.evaluations.view
    view.click(evaluations.act, None, view, trigger_mode="multiple", **NOTIFYING)
    page.browser.status_ticker.tick(evaluations.refresh, None, view, **QUIET)
