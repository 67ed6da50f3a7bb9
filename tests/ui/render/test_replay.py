"""The replay side by side: differences are marked, and missing answers are noted."""

from hypothesis import given, settings

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.types import Timings, Usage
from phi3_ui.ui.render.replay import Comparison, compare, render_progress, render_replay_head
from tests.support.hostile import hostile_texts, languages
from tests.support.html import ParsedPage


def _create_chat(question: str, answer: Answer | None) -> Conversation:
    conversation = Conversation().with_question(question)
    return conversation.with_answer(answer) if answer else conversation


OLD = Answer("phi-3 · ONNX", "The cat sat.", Usage(1200, 34), Timings(0.126, 1.0, 98.44), "stop")
NEW = Answer("phi-4 · ONNX", "The dog sat.", Usage(1100, 30), Timings(0.5, 2.0, 15.0), "length")


def _totals(comparison: Comparison) -> dict[str, tuple[str, str]]:
    return {name: (old, new) for name, old, new in comparison["totals"][1:]}


def test_differences_are_marked_on_their_own_side() -> None:
    comparison = compare("en", _create_chat("Who sat?", OLD), _create_chat("Who sat?", NEW))

    assert comparison["labels"] == {"old": "Original", "new": "Replay", "differences": "Show differences"}
    (turn,) = comparison["turns"]
    assert turn["question"] == "Who sat?"
    assert turn["old"] == {
        "model": "phi-3 · ONNX",
        "text": "The cat sat.",
        "pieces": [("same", "The"), ("only_left", " cat"), ("same", " sat.")],
        "error": "",
        "metrics": "1,200 + 34 tokens · first token: 0.13 s · 98.4 tokens/s",
    }
    assert turn["new"]["model"] == "phi-4 · ONNX"
    assert turn["new"]["pieces"] == [("same", "The"), ("only_right", " dog"), ("same", " sat.")]
    assert turn["new"]["metrics"].endswith("15.0 tokens/s · cut off at max tokens")


def test_the_totals_are_side_by_side() -> None:
    old, new = (
        _create_chat("one", OLD).with_question("two").with_answer(OLD),
        _create_chat("one", NEW).with_question("two"),
    )
    comparison = compare("en", old, new)

    assert comparison["totals"][0] == ["", "Original", "Replay"]
    assert _totals(comparison) == {
        "Model": ("phi-3 · ONNX", "phi-4 · ONNX"),
        "Answers": ("2", "1"),
        "Failed": ("0", "0"),
        "Prompt tokens": ("2,400", "1,100"),
        "Completion tokens": ("68", "30"),
        "Total tokens": ("2,468", "1,130"),
        "Time to first token, median": ("0.13 s", "0.50 s"),
        "Tokens/s, median": ("98.4", "15.0"),
    }


def test_before_the_replay_only_the_old_answers_are_shown() -> None:
    comparison = compare("en", _create_chat("one", OLD))

    (turn,) = comparison["turns"]
    assert (turn["old"]["text"], turn["new"]["text"], turn["new"]["metrics"]) == ("The cat sat.", "", "")
    assert comparison["totals"] == []


def test_a_replay_that_has_just_begun_shows_the_old_answers_unmarked() -> None:
    old = _create_chat("one", OLD).with_question("two").with_answer(OLD)
    for new in (Conversation(), Conversation().with_question("one")):
        comparison = compare("en", old, new)

        for turn in comparison["turns"]:
            assert (turn["old"]["text"], turn["old"]["pieces"]) == ("The cat sat.", [])
            assert turn["new"]["metrics"] == "Not answered yet."
        assert _totals(comparison)["Total tokens"] == ("2,468", "unknown")


def test_failures_show_the_reason_and_unknown_values_are_not_zero() -> None:
    failed = Answer("phi-4", "", error=("management_disabled", {}))
    comparison = compare("en", _create_chat("one", None), _create_chat("one", failed))

    (turn,) = comparison["turns"]
    assert turn["old"]["metrics"] == "Not answered."
    assert turn["new"]["error"].startswith("Changing models is disabled")
    assert turn["new"]["metrics"] == "failed"
    assert _totals(comparison)["Failed"] == ("0", "1")


def test_a_replay_answer_without_text_marks_all_of_the_old_one() -> None:
    empty = Answer("m", "", OLD.usage, OLD.timings, "cancelled")
    (turn,) = compare("ro", _create_chat("one", OLD), _create_chat("one", empty))["turns"]

    assert turn["old"]["pieces"] == [("only_left", "The cat sat.")]
    assert (turn["new"]["pieces"], turn["new"]["model"]) == ([], "m")
    assert "98,4 tokeni/s" in turn["old"]["metrics"]


@settings(deadline=None)
@given(languages, hostile_texts)
def test_no_title_or_sentence_is_html(language: str, text: str) -> None:
    for html, plain in (
        (render_replay_head(language, text), render_replay_head(language, "a")),
        (render_progress(text), render_progress("a")),
    ):
        page = ParsedPage(html)
        assert [tag for tag, _ in page.elements] == [tag for tag, _ in ParsedPage(plain).elements]
        assert text in "".join(page.texts("h2", "p"))
