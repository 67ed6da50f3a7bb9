"""Notices that the page shows for some seconds. Gradio reads their text as HTML; ours is text, with names that others chose.

Events that are not queued, such as those of `events.QUIET`, show none.
"""

import html

import gradio as gr


def show_warning(sentence: str) -> None:
    """Tell why nothing was done."""
    gr.Warning(html.escape(sentence, quote=False))


def show_info(sentence: str) -> None:
    """Warn that something was done differently than expected."""
    gr.Info(html.escape(sentence, quote=False))
