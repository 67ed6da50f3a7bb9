"""What a script of the page sends with an event."""

from typing import Any

import gradio as gr


def read_fields(event: gr.EventData) -> dict[str, Any]:
    """The fields by name; none if a program has sent something else."""
    return event._data if isinstance(event._data, dict) else {}
