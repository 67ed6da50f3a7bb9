"""The components that handlers write to, and what they give: updates by component."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

Updates = dict[Any, Any]


@dataclass(frozen=True)
class Page:
    setup_view: gr.Column
    setup_panel: gr.HTML
    retry_setup: gr.Button
    chat_view: gr.Column
    ticker: gr.Timer
    chats: gr.HTML
    warning: gr.HTML
    picker: gr.Dropdown
    template: gr.Dropdown
    controls: Mapping[str, Any]  # by the name of the field of GenerationParams that each sets
    status: gr.HTML
    unload: gr.Button
    replay_view: gr.Column
    replay_html: gr.HTML
    replay_note: gr.HTML
    replay_stop: gr.Button
    chatbot: gr.Chatbot
    context: gr.HTML
    editing: gr.HTML
    comment_group: gr.Group
    comment: gr.Textbox
    message: gr.Textbox
    send: gr.Button
    stop: gr.Button
    usage: gr.HTML
    card: gr.HTML
    relog: gr.Button
    snippet_panel: gr.Accordion
    snippet: gr.Code
    download: gr.HTML
    upload: gr.UploadButton
