"""Replay a chat on another model, side by side with the old answers."""

import gradio as gr
from gradio.events import Dependency

from phi3_ui.ui.handlers.replay import ReplayController
from phi3_ui.ui.page.components import Page, ReplaySection
from phi3_ui.ui.page.events import QUIET, STREAMING
from phi3_ui.ui.page.scripts import REPLAY_JS, view_js
from phi3_ui.ui.page.texts import I18N


def create() -> ReplaySection:
    """Create the view that covers the chat during a replay. It always exists; the style sheet hides it."""
    t = I18N
    with gr.Column(elem_id="phi3-replay"):
        head = gr.HTML("", apply_default_css=False, padding=False, js_on_load=view_js("replay"))
        with gr.Row(elem_id="phi3-replay-bar"):
            model = gr.Dropdown(
                choices=[], label=t("model"), show_label=False, container=False, elem_id="phi3-replay-model"
            )
            model.allow_custom_value = True  # as in the page's own model picker
            start = gr.Button(t("replay.start"), variant="primary", elem_id="phi3-replay-start")
            stop = gr.Button(t("replay.stop"), variant="stop", elem_id="phi3-replay-stop")
        note = gr.HTML(apply_default_css=False, padding=False, elem_id="phi3-replay-note")
        comparison = gr.HTML(
            None,
            html_template="",
            apply_default_css=False,
            padding=False,
            js_on_load=REPLAY_JS,
            elem_id="phi3-comparison",
        )
        return ReplaySection(head, model, start, stop, note, comparison)


def wire(page: Page, replay: ReplayController, resumed: Dependency) -> None:
    """Connect the buttons. `resumed` ends once a reloaded page shows its chat."""
    section = page.replay
    outputs = [*section.outputs, page.conversations.chat_list]
    section.stop.click(replay.stop, None, None, **QUIET)
    section.start.click(replay.replay, section.model, outputs, trigger_mode="multiple", **STREAMING)
    resumed.then(replay.resume, None, outputs, trigger_mode="multiple", **STREAMING)
