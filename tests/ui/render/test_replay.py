"""The replay side by side: what differs is marked, what is not there is said, and no value in it is ever HTML."""

from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.types import Timings, Usage
from phi3_ui.ui.render.replay import render_replay
from tests.support.hostile import hostile_texts, languages
from tests.support.html import Page

_TAGS = {"div", "p", "b", "del", "ins", "table", "thead", "tbody", "tr", "th", "td"}
_CLASSES = {"phi3-replay", "turn", "question", "sides", "side", "which", "text", "gone", "new"}
_CLASSES |= {"phi3-quiet", "phi3-error", "phi3-usage"}


def _one(question: str, answer: Answer | None) -> Conversation:
    asked = Conversation().with_question(question)
    return asked.with_answer(answer) if answer else asked


OLD = Answer("phi-3 · ONNX", "The cat sat.", Usage(1200, 34), Timings(0.126, 1.0, 98.44), "stop")
NEW = Answer("phi-4 · ONNX", "The dog sat.", Usage(1100, 30), Timings(0.5, 2.0, 15.0), "length")


def _rows(page: Page) -> dict[str, tuple[str, str]]:
    """The rows of the totals."""
    cells = page.texts("th", "td")[3:]
    return {cells[at]: (cells[at + 1], cells[at + 2]) for at in range(0, len(cells), 3)}


@settings(deadline=None)
@given(languages, st.lists(hostile_texts, min_size=6, max_size=6))
def test_no_value_is_html(language: str, texts: list[str]) -> None:
    question, before, after, model, other, detail = texts
    error: tuple[str, dict[str, str | int]] = ("unexpected", {"detail": detail})
    page = Page(
        render_replay(
            language, _one(question, Answer(model, before)), _one(question, Answer(other, after, error=error))
        )
    )

    assert {tag for tag, _ in page.elements} <= _TAGS
    attributes = {attribute for _, found in page.elements for attribute in found}
    assert {value for name, value in attributes if name == "class"} <= _CLASSES
    assert {attribute for attribute in attributes if attribute[0] != "class"} == {("dir", "auto")}
    shown = page.texts("p")
    assert {question, before, after} <= set(shown)
    assert any(text.endswith(f" · {model}") for text in shown)
    assert any(detail in text for text in shown)


def test_what_differs_is_marked_on_its_own_side() -> None:
    html = render_replay("en", _one("Who sat?", OLD), _one("Who sat?", NEW))

    assert '<p class="text" dir="auto">The<del class="gone"> cat</del> sat.</p>' in html
    assert '<p class="text" dir="auto">The<ins class="new"> dog</ins> sat.</p>' in html
    assert Page(html).texts("p")[:5] == [
        "Who sat?",
        "Original · phi-3 · ONNX",
        "The cat sat.",
        "1,200 + 34 tokens · first token: 0.13 s · 98.4 tokens/s",
        "Replay · phi-4 · ONNX",
    ]
    assert Page(html).texts("p")[-1].endswith("15.0 tokens/s · cut at max tokens")


def test_the_totals_stand_side_by_side() -> None:
    old, new = _one("one", OLD).with_question("two").with_answer(OLD), _one("one", NEW).with_question("two")

    assert _rows(Page(render_replay("en", old, new))) == {
        "Model": ("phi-3 · ONNX", "phi-4 · ONNX"),
        "Answers": ("2", "1"),
        "Failed": ("0", "0"),
        "Prompt tokens": ("2,400", "1,100"),
        "Completion tokens": ("68", "30"),
        "Total tokens": ("2,468", "1,130"),
        "Time to first token, median": ("0.13 s", "0.50 s"),
        "Tokens/s, median": ("98.4", "15.0"),
    }


def test_a_replay_that_has_just_begun_shows_the_old_answers_unmarked() -> None:
    old = _one("one", OLD).with_question("two").with_answer(OLD)
    for new in (Conversation(), Conversation().with_question("one")):
        page = Page(render_replay("en", old, new))

        assert [tag for tag, _ in page.elements if tag in ("del", "ins")] == []
        assert page.texts("p").count("Not answered yet.") == 2
        assert page.texts("p").count("The cat sat.") == 2
        assert _rows(page)["Total tokens"] == ("2,468", "unknown")


def test_what_failed_says_why_and_what_is_unknown_is_no_zero() -> None:
    failed = Answer("phi-4", "", error=("management_disabled", {}))

    page = Page(render_replay("en", _one("one", None), _one("one", failed)))

    assert "Not answered." in page.texts("p")
    assert any(text.startswith("Changing models is disabled") for text in page.texts("p"))
    assert page.texts("p")[-1] == "tokens: unknown · first token: unknown · unknown tokens/s · failed"
    assert _rows(page)["Failed"] == ("0", "1")


def test_an_answer_that_lost_its_text_is_gone_whole() -> None:
    html = render_replay("ro", _one("one", OLD), _one("one", Answer("m", "", OLD.usage, OLD.timings, "cancelled")))

    assert '<p class="text" dir="auto"><del class="gone">The cat sat.</del></p>' in html
    assert "<ins" not in html
