"""Compare models: ask several the same question side by side, and vote."""

import gradio as gr
from gradio.events import Dependency

from phi3_ui.chat.presets import PARAM_PRESETS
from phi3_ui.i18n.translate import BROWSER_TEXTS
from phi3_ui.ui.handlers.compare import CompareController
from phi3_ui.ui.handlers.compare_meter import CompareMeter
from phi3_ui.ui.page.components import CompareSection, Page
from phi3_ui.ui.page.events import NOTIFYING, QUIET, STREAMING
from phi3_ui.ui.page.scripts import module_js, view_js
from phi3_ui.ui.page.texts import browser_texts

_TEXTS = [
    *(key for key in BROWSER_TEXTS["en"] if key.startswith("compare")),
    *("attach", "attach.remove", "attach.drop", "attach.not_text", "attach.unreadable", "attach.too_large"),
    *("ratings", "message", "model", "copy_code", "copied", "wrap_code"),
    *(f"preset.{preset.name}" for preset in PARAM_PRESETS),
]


def create() -> CompareSection:
    """Create the view that covers the chat during a comparison. It always exists; the style sheet hides it."""
    presets = [preset.name for preset in PARAM_PRESETS]
    view = gr.HTML(
        "",
        html_template="",
        apply_default_css=False,
        padding=False,
        js_on_load=view_js("compare") + module_js("compare/view.js", browser_texts(_TEXTS), presets),
        elem_id="phi3-compare",
    )
    meter = gr.HTML("", visible="hidden", apply_default_css=False, padding=False, elem_id="phi3-compare-context")
    return CompareSection(view, meter)


def wire(page: Page, compare: CompareController, meter: CompareMeter, resumed: Dependency) -> None:
    """Connect the view. `resumed` ends once a reloaded page shows its chat."""
    view, chat_list, usage = page.compare.view, page.conversations.chat_list, page.usage.panel
    view.click(
        compare.act,
        None,
        [view, page.ratings.view, page.evaluations.view, chat_list, usage, page.export.download],
        trigger_mode="multiple",
        **NOTIFYING,
    )
    view.input(
        compare.ask,
        None,
        [view, chat_list, usage],
        inputs_kwargs=page.settings_inputs,
        trigger_mode="multiple",
        **STREAMING,
    )
    # Not "always_last": a delayed event would carry the data of the one before it.
    view.edit(meter.count_draft, page.settings.system, page.compare.meter, trigger_mode="multiple", **QUIET)
    resumed.then(compare.resume, None, [view, chat_list, usage], trigger_mode="multiple", **STREAMING)
