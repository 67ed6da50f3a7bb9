"""The chat list: by day, the shown one marked, and no value parsed as HTML."""

import re
from datetime import datetime, timedelta
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi3_ui.store.conversations.history import ConversationSummary
from phi3_ui.ui.render.chat_footer import render_footer
from phi3_ui.ui.render.chat_list import ChatListView, is_visible, render_chat_list, short_title

_NOW = datetime(2026, 3, 10, 12, 0)


def _chat(id_: str, title: str = "Hi", is_pinned: bool = False, **ago: float) -> ConversationSummary:
    return ConversationSummary(id_, title, (_NOW - timedelta(**ago)).timestamp(), is_pinned)


def test_chats_are_grouped_by_the_day_they_were_last_used() -> None:
    chats = [_chat("a", hours=1), _chat("b", hours=11), _chat("c", hours=13), _chat("d", days=5), _chat("e", days=90)]

    shown = render_chat_list("en", [_chat("p", is_pinned=True, days=40), *chats], ChatListView("c"), _NOW)

    parts = ["Pinned", "p", "Today", "a", "b", "Yesterday", "c", "Previous 7 days", "d", "Older", "e"]
    assert re.findall(r'<h2>([^<]*)|name="open" value="(.)"', shown) == [
        (part, "") if len(part) > 1 else ("", part) for part in parts
    ]
    assert re.findall(r'value="(.)"[^>]* aria-current="page"', shown) == ["c"]
    assert shown.count("data-pinned") == 1


def test_each_chat_has_a_named_button_for_its_menu() -> None:
    shown = render_chat_list("ro", [_chat("a", "Marea <b>")], ChatListView(""), _NOW)

    assert '<button class="phi3-more" data-menu="chat" value="a" aria-haspopup="menu"' in shown
    assert 'aria-label="Acțiuni pentru „Marea &lt;b&gt;”"' in shown


def test_the_footer_names_the_guest_or_the_login_and_links_to_mlflow_while_that_runs() -> None:
    guest = render_footer("ro", None, None)
    assert ">V</span>" in guest
    assert ">Vizitator</span>" in guest
    assert "href" not in guest.replace("<use href", "")
    assert 'aria-label="Preferințe"' in guest

    anna = render_footer("en", "anna <b>", "http://localhost:5000/#/experiments/1?a=b&c")
    assert ">A</span>" in anna
    assert ">anna &lt;b&gt;</span>" in anna
    assert '<form method="post" action="logout">' in anna
    assert 'href="http://localhost:5000/#/experiments/1?a=b&amp;c" target="_blank"' in anna


@pytest.mark.parametrize("title", ["", "  ", "\u200b\u200d", "\u202e\x1b"])
def test_an_invisible_title_gets_a_name(title: str) -> None:
    shown = render_chat_list("en", [_chat("a", title)], ChatListView("b"), _NOW)

    assert '<button class="phi3-action" name="open" value="a" dir="auto">Untitled</button>' in shown
    assert ">‏שלום</button>" in render_chat_list("en", [_chat("a", "‏שלום")], ChatListView("b"), _NOW)


@pytest.mark.parametrize(("query", "words"), [("", "will be listed"), ("x", "No chats found")])
def test_an_empty_list_shows_the_reason(query: str, words: str) -> None:
    assert words in render_chat_list("en", [], ChatListView("", query=query), _NOW)


@pytest.mark.parametrize(
    ("language", "count", "line"),
    [
        ("en", 1, "1 turn could not be read."),
        ("en", 2, "2 turns could not be read."),
        ("ro", 2, "2 schimburi nu au putut fi citite."),
        ("ro", 20, "20 de schimburi nu au putut fi citite."),
    ],
)
def test_unreadable_turns_are_counted(language: str, count: int, line: str) -> None:
    view = ChatListView("a", unreadable=count)

    assert f'<p class="phi3-quiet">{line}</p>' in render_chat_list(language, [_chat("a")], view, _NOW)


def test_no_line_is_shown_if_every_turn_is_readable() -> None:
    assert "could not be read" not in render_chat_list("en", [_chat("a")], ChatListView("a"), _NOW)


@pytest.mark.parametrize(
    ("start", "first", "gaps"),
    [
        (0, 0, [(0, 0), (150, 2)]),  # Pinned and Today; Yesterday and Older below
        (20, 20, [(20, 0), (130, 1)]),
        (60, 60, [(60, 1), (90, 1)]),
        (400, 150, [(150, 2), (0, 0)]),
        (-5, 0, [(0, 0), (150, 2)]),
    ],
)
def test_a_part_of_a_long_list_is_shown_and_the_rest_is_a_gap(
    start: int, first: int, gaps: list[tuple[int, int]]
) -> None:
    """A gap has the rows and the headings above the first heading that is shown, or below the last chat."""
    hours = [*[1] * 50, *[1] * 60, *[13] * 50, *[2000] * 90]
    chats = [_chat(f"c{number}", hours=hours_ago, is_pinned=number < 50) for number, hours_ago in enumerate(hours)]

    shown = render_chat_list("en", chats, ChatListView("", start=start), _NOW)

    assert re.findall(r'name="open" value="c(\d+)"', shown) == [str(number) for number in range(first, first + 100)]
    spacers = re.findall(r'data-rows="(\d+)" style="--rows: (\d+); --headings: (\d+)"', shown)
    assert [(int(rows), int(headings)) for rows, _, headings in spacers] == gaps
    assert f">{150 - first} more</button>" in shown or first == 150


def test_a_deletion_can_be_undone() -> None:
    shown = render_chat_list("ro", [], ChatListView("", deleted=("gone", "Marea & <b>")), _NOW)

    assert '<button class="phi3-action" name="restore" value="gone">Anulează</button>' in shown
    assert "„Marea &amp; &lt;b&gt;” a fost ștearsă." in shown


class _Tags(HTMLParser):
    """The elements of an HTML text, with their attributes' names."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []
        self.text = ""
        self.feed(str(html))  # not Markup, whose operations escape
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(min_size=1, max_size=200).filter(is_visible), st.text(max_size=40))
def test_no_title_is_html(title: str, id_: str) -> None:
    plain = _Tags(render_chat_list("en", [_chat("x", "y")], ChatListView("", deleted=("x", "y")), _NOW))
    shown = _Tags(render_chat_list("en", [_chat(id_, title)], ChatListView("other", deleted=(id_, title)), _NOW))

    assert shown.found == plain.found
    assert short_title(title) in shown.text


def test_a_notice_about_the_store_is_above_the_chats() -> None:
    notice = "kept in <b>/a & b</b>"
    shown = render_chat_list("en", [_chat("a")], ChatListView("a", notice=notice), _NOW)
    assert shown.index("kept in &lt;b&gt;/a &amp; b&lt;/b&gt;") < shown.index("<h2>")
