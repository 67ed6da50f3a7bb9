"""Replay a chat on another model, side by side with the old answers."""

import gradio as gr
from gradio.events import Dependency

from phi3_ui.ui.handlers.replay import ReplayController
from phi3_ui.ui.page.components import Page, ReplaySection
from phi3_ui.ui.page.events import QUIET, STREAMING
from phi3_ui.ui.page.texts import I18N


def create_start_button() -> gr.Button:
    """Create the button that starts a replay."""
    return gr.Button(I18N("replay"), size="sm", elem_id="phi3-replay-ask")


def create(start: gr.Button) -> ReplaySection:
    """Create the view that covers the chat during a replay."""
    t = I18N
    with gr.Column(visible=False, elem_id="phi3-replay") as view:
        with gr.Row():
            back = gr.Button(t("replay.back"), size="sm", scale=0, min_width=140)
            stop = gr.Button(t("stop"), variant="stop", size="sm", scale=0, min_width=80, visible=False)
        return ReplaySection(start, view, back, stop, note=gr.HTML(), comparison=gr.HTML())


def wire(page: Page, replay: ReplayController, resumed: Dependency) -> Dependency:
    """The event that ends with the replay. `resumed` ends once a page that was reloaded shows its chat."""
    section = page.replay
    outputs = [section.view, section.comparison, section.note, section.stop, page.conversations.chat_list]
    section.stop.click(replay.stop, None, None, **QUIET)
    section.back.click(replay.back, None, section.view, **QUIET)
    replayed: Dependency = section.start.click(
        replay.replay, page.picker, outputs, trigger_mode="multiple", **STREAMING
    )
    resumed.then(replay.resume, None, outputs, trigger_mode="multiple", **STREAMING)
    return replayed
