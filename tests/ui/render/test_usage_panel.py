"""The usage table."""

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.types import Timings, Usage
from phi3_ui.ui.render.usage_panel import render_usage
from tests.support.html import Page

_TIMED = Answer("m", "b", Usage(1200, 34, 1150), Timings(0.126, 1.0, 98.44), "stop")


def _table(language: str, conversation: Conversation) -> list[list[str]]:
    """The rows of the usage table, without its head."""
    cells = Page(render_usage(language, conversation)).texts("th", "td")[3:]
    return [cells[start : start + 3] for start in range(0, len(cells), 3)]


def test_last_answer_stands_beside_the_conversation() -> None:
    first = Conversation().with_question("one").with_answer(Answer("m", "a", Usage(10, 5), None, "stop"))
    conversation = first.with_question("two").with_answer(_TIMED).with_question("three")

    assert _table("en", conversation) == [
        ["Prompt tokens", "1,200", "1,210"],
        ["Cached prompt tokens", "1,150", "1,150"],
        ["Completion tokens", "34", "39"],
        ["Total tokens", "1,234", "1,249"],
        ["Time to first token", "0.13 s", ""],
        ["Tokens/s", "98.4", ""],
        ["Finish reason", "finished", ""],
    ]


def test_numbers_follow_the_language() -> None:
    rows = _table("ro", Conversation().with_question("one").with_answer(_TIMED))

    assert [answer for _, answer, _ in rows] == ["1.200", "1.150", "34", "1.234", "0,13 s", "98,4", "încheiat"]


def test_unknown_usage_is_not_zero() -> None:
    known = Conversation().with_question("one").with_answer(_TIMED)
    error: tuple[str, dict[str, str | int]] = ("unexpected", {"detail": "X"})

    rows = _table("en", known.with_question("two").with_answer(Answer("m", "a", error=error)))

    assert [answer for _, answer, _ in rows] == ["unknown"] * 6 + ["failed"]
    assert [total for _, _, total in rows[:4]] == ["1,200", "1,150", "34", "1,234"]


def test_zero_usage_is_zero() -> None:
    stopped = Answer("m", "", Usage(0, 0, 0), Timings(None, 0.1, None), "cancelled")

    rows = _table("ro", Conversation().with_question("one").with_answer(stopped))

    assert [answer for _, answer, _ in rows] == ["0", "0", "0", "0", "necunoscut", "necunoscut", "oprit"]


def test_there_is_no_table_before_the_first_answer() -> None:
    page = Page(render_usage("en", Conversation().with_question("one")))

    assert page.cells == [("p", "Token counts appear after the first answer.")]
