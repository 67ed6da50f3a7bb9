"""One-line messages."""

from hypothesis import given, settings

from phi3_ui.ui.render.notices import render_error, render_hint, render_note, render_warning
from tests.support.hostile import hostile_texts
from tests.support.html import ParsedPage


@settings(deadline=None)
@given(hostile_texts)
def test_no_sentence_is_html(text: str) -> None:
    for notice in (render_error(text), render_warning("ro", text), render_note(text), render_hint(text)):
        assert ParsedPage(notice).cells == [("p", text)]
