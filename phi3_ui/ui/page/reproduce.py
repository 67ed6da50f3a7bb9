"""The program that reproduces an answer. It is filled by an action button."""

import gradio as gr

from phi3_ui.ui.page.components import ReproduceSection
from phi3_ui.ui.page.texts import I18N


def create() -> ReproduceSection:
    """Create the accordion with the program, hidden until an answer is reproduced."""
    with gr.Accordion(I18N("reproduce"), open=False, visible=False, elem_id="phi3-reproduce") as panel:
        snippet = gr.Code(
            label=I18N("reproduce.label"), language="python", interactive=False, max_lines=20, wrap_lines=True
        )
    return ReproduceSection(panel, snippet)
