"""The data that a script of the page sends with an event."""

from typing import Any

import gradio as gr

_MAX_DIGITS = 9


def read_fields(event: gr.EventData) -> dict[str, Any]:
    """Return the fields by name; empty if a program has sent something else."""
    return event._data if isinstance(event._data, dict) else {}


def read_number(text: str) -> int | None:
    """Parse a number of at most nine digits; None for anything else. Python refuses to convert thousands of digits."""
    return int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else None
