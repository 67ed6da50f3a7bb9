"""Ratings: the leaderboard of the votes on comparisons. actions.js handles its action buttons and selects."""

import gradio as gr

from phi3_ui.ui.page.components import RatingsSection
from phi3_ui.ui.page.scripts import KEEP_SCROLL_JS, view_js


def create() -> RatingsSection:
    """Create the view, which covers the chat or the comparison that it was opened from while it is not empty."""
    script = f"{view_js('ratings')}\n{KEEP_SCROLL_JS}"
    return RatingsSection(
        gr.HTML("", elem_id="phi3-ratings", apply_default_css=False, padding=False, js_on_load=script)
    )
