"""The program that reproduces an answer, in a dialog."""

import gradio as gr

from phi3_ui.ui.page.scripts import module_js
from phi3_ui.ui.page.texts import browser_texts


def create() -> gr.HTML:
    """Create the dialog, which opens when an action button gives it a program."""
    # Not gr.Code: its editor is a fifth of all that the page loads, but the program is read-only.
    script = module_js("chat/program.js", browser_texts(["reproduce", "close", "copy_code", "copied", "wrap_code"]))
    return gr.HTML(
        html_template="", js_on_load=script, apply_default_css=False, padding=False, elem_id="phi3-reproduce"
    )
