"""The status line of the selected model."""

from phi3_ui.chat.types import CacheStats
from phi3_ui.ui.render.model_status import render_status
from tests.support.html import Page


def test_status_is_loading_loaded_or_neither() -> None:
    assert Page(render_status("en", None, None)).cells == [("p", "not loaded")]
    assert Page(render_status("en", 0.0, None)).cells == [("p", "loading … 0 s")]
    assert Page(render_status("ro", 3.9, None)).cells == [("p", "se încarcă … 3 s")]
    assert Page(render_status("en", None, "stream")).cells == [("p", "loaded · streams its tokens")]


def test_status_describes_the_prompt_cache() -> None:
    line = render_status("en", None, "stream", CacheStats(3_000_000_000, 1_100_000_000, 3, 12, 2))

    assert "1,100.0 MB of 3,000.0 MB · chats: 3 · cache hits: 12 of 14" in line
