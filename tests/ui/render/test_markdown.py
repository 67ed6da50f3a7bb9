"""Raw HTML is shown, not obeyed; code and maths stay as written. A CommonMark renderer that allows HTML is the judge."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from phi3_ui.ui.render.markdown import escape_html

_pieces = [
    "`",
    "``",
    "```",
    "~~~",
    "\n",
    "\n\n",
    " ",
    "    ",
    "- ",
    "> ",
    "<b>",
    "</b>",
    "<img src=x onerror=y>",
    "<",
    "a",
    "\\",
    "1. ",
]
_texts = st.lists(
    st.sampled_from(_pieces) | st.text(st.characters(exclude_characters="&$\r\0"), max_size=5), max_size=14
).map("".join)

ALLOWS = MarkdownIt("commonmark", {"html": True})
REFUSES = MarkdownIt("commonmark", {"html": False})


@settings(deadline=None, max_examples=300)
@given(_texts)
def test_a_renderer_that_allows_html_finds_none(text: str) -> None:
    tokens = ALLOWS.parse(escape_html(text))
    kinds = {inner.type for token in tokens for inner in [token, *(token.children or [])]}
    assert not kinds & {"html_block", "html_inline"}


@settings(deadline=None, max_examples=300)
@given(_texts.filter(lambda text: "://" not in text and "@" not in text))
def test_the_page_shows_the_text_as_if_there_were_no_html_in_markdown(text: str) -> None:
    assert ALLOWS.render(escape_html(text)) == REFUSES.render(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("AT&T &lt;b&gt;", "AT&amp;T &amp;lt;b&amp;gt;"),
        ("> quoted\n\n1 < 2", "> quoted\n\n1 &lt; 2"),
        ("a `<b>` <i> `` ` <u> `` <s>", "a `<b>` &lt;i> `` ` <u> `` &lt;s>"),
        ("so $$a < b$$ <i>", "so $$a < b$$ &lt;i>"),
        ("costs 5$ <b> or 6$", "costs 5$ &lt;b> or 6$"),
        ("```html\n<b>\n```\n<i>", "```html\n<b>\n```\n&lt;i>"),
        ("1. so\n   ```html\n   <b>\n   ```\n<i>", "1. so\n   ```html\n   <b>\n   ```\n&lt;i>"),
        ("text\n```\n<b> still open", "text\n```\n<b> still open"),
        ("| <b> | `<i>` |\n|---|---|\n| 1<2 | `a<b` |", "| &lt;b> | `<i>` |\n|---|---|\n| 1&lt;2 | `a<b` |"),
        ("", ""),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert escape_html(text) == shown
