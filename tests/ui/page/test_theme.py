"""Style sheets that Gradio can scope."""

import re

from phi3_ui.ui.page.theme import CSS


def test_has_contains_no_selector_list() -> None:
    """Gradio splits selectors at each comma to put its own class before them, which changes what `:has()` means."""
    assert re.findall(r":has\([^()]*(?:\([^()]*\)[^()]*)*,[^{]*?\)", CSS) == []
