"""Style sheets that Gradio can scope."""

import re

from phi3_ui.ui.page.theme import CSS


def test_no_list_of_selectors_stands_in_has() -> None:
    """Gradio splits selectors at each comma to put its own class before them, which changes what `:has()` means."""
    assert re.findall(r":has\([^()]*(?:\([^()]*\)[^()]*)*,[^{]*?\)", CSS) == []
