"""The program that reproduces an answer. It is filled by an action button."""

import gradio as gr

from phi3_ui.ui.page.components import ReproduceSection
from phi3_ui.ui.page.scripts import module_js
from phi3_ui.ui.page.texts import I18N, browser_texts

# Not gr.Code: its editor is a fifth of all that the page loads, for a program that is only shown.
_PROGRAM_JS = module_js("chat/program.js", browser_texts(["copy_code", "copied"]))


def create() -> ReproduceSection:
    """Create the accordion with the program, hidden until an answer is reproduced."""
    with gr.Accordion(I18N("reproduce"), open=False, visible=False, elem_id="phi3-reproduce") as panel:
        snippet = gr.HTML("", html_template="", js_on_load=_PROGRAM_JS, apply_default_css=False)
    return ReproduceSection(panel, snippet)
