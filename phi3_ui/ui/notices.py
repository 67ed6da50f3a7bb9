"""Notices that the page shows for a few seconds. Gradio renders their text as HTML; ours is escaped, since it may contain names chosen by others.

Events that are not queued, such as those of `events.QUIET`, cannot show any.
"""

import html

import gradio as gr


def show_warning(sentence: str) -> None:
    """Show why nothing was done."""
    gr.Warning(html.escape(sentence, quote=False))


def show_info(sentence: str) -> None:
    """Show that something was done differently than expected."""
    gr.Info(html.escape(sentence, quote=False))
