"""The usage tab: its tiles, parts, pairs, bars and details, and that unknown values are shown as unknown."""

import re
from dataclasses import replace

from hypothesis import given, settings

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.types import ContextUsage, Timings, Usage
from phi3_ui.ui.render.mlflow_links import Link
from phi3_ui.ui.render.usage_panel import render_usage
from tests.support.hostile import hostile_texts, languages
from tests.support.html import ParsedPage

_TIMED = Answer(
    "m · ONNX", "b", Usage(1200, 34, 1150), Timings(0.126, 1.0, 98.44), "stop", context=ContextUsage(1200, 8192)
)
_PLAIN = Answer("m · Pipeline", "a", Usage(10, 5), None, "stop")
_TWO = Conversation().with_question("one").with_answer(_PLAIN).with_question("two").with_answer(_TIMED)


def _read(html: str) -> ParsedPage:
    return ParsedPage(html, "h2", "span", "em", "figcaption")


def _pairs(language: str, conversation: Conversation) -> list[tuple[str, str]]:
    """Return the names and values of the tiles and the lists; an unknown value is a dash."""
    found = re.findall(r"<dt>(?:<i [^>]*></i>)?(.*?)</dt><dd>(.*?)</dd>", render_usage(language, conversation))
    return [(name, re.sub(r"<span [^>]*>(—)</span>", r"\1", value)) for name, value in found]


def _details(language: str, conversation: Conversation) -> list[list[str]]:
    """Return the rows of the details table."""
    _, _, body = render_usage(language, conversation).partition("<tbody>")
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", body.partition("</tbody>")[0])
    texts = [re.sub(r"<[^>]*>", "", cell) for cell in cells]
    return [texts[start : start + 3] for start in range(0, len(texts), 3)]


def test_the_answer_and_its_conversation_are_drawn_with_their_metrics() -> None:
    assert _pairs("en", _TWO.with_question("three")) == [
        ("tokens/s", "98.4"),
        ("first token", "0.13 s"),
        ("tokens", "1,234"),
        ("Prompt, cached", "1,150"),
        ("Prompt, new", "50"),
        ("Completion", "34"),
        ("Answers", "2"),
        ("Prompt tokens", "1,210"),
        ("Completion tokens", "39"),
        ("Context used", "1,234 of 8,192"),
    ]
    shares = re.findall(r"flex-grow: (\d+); background: var\((--seg-\w+)\)", render_usage("en", _TWO))
    assert shares == [("1150", "--seg-cached"), ("50", "--seg-prompt"), ("34", "--seg-answer")]


def test_numbers_and_words_follow_the_language() -> None:
    pairs = dict(_pairs("ro", _TWO))

    assert (pairs["tokeni/s"], pairs["primul token"], pairs["tokeni"]) == ("98,4", "0,13 s", "1.234")
    assert (pairs["Prompt, din cache"], pairs["Context folosit"]) == ("1.150", "1.234 din 8.192")
    for count, text in (
        (1, "1 răspuns"),
        (3, "3 răspunsuri"),
        (1204, "1.204 răspunsuri"),
        (1220, "1.220 de răspunsuri"),
    ):
        assert text in _read(render_usage("ro", _TWO, answers=count)).texts("em")


def test_unknown_values_are_marked_and_not_zero() -> None:
    error: tuple[str, dict[str, str | int]] = ("unexpected", {"detail": "X"})
    failed = _TWO.with_question("three").with_answer(Answer("m", "a", error=error))

    pairs = _pairs("en", failed)
    assert [value for _, value in pairs[:6]] == ["—"] * 6
    assert pairs[-1] == ("Context used", "—")
    assert ("Prompt tokens", "1,210") in pairs
    assert 'title="unknown" aria-label="unknown">—' in render_usage("en", failed)
    assert [value for _, value, _ in _details("en", failed)] == ["—"] * 7 + ["failed"]
    # Without a count of cached tokens, the prompt is one part.
    plain = Conversation().with_question("one").with_answer(_PLAIN)
    assert _pairs("en", plain)[3:6] == [("Prompt, cached", "—"), ("Prompt", "10"), ("Completion", "5")]


def test_zero_is_shown_as_zero() -> None:
    stopped = Answer("m", "", Usage(0, 0, 0), Timings(None, 0.1, None), "cancelled")
    conversation = Conversation().with_question("one").with_answer(stopped)

    assert [value for _, value in _pairs("ro", conversation)[:6]] == ["—", "—", "0", "0", "0", "0"]
    assert _details("ro", conversation)[-1][1] == "oprit"


def test_the_details_are_beside_those_of_the_conversation() -> None:
    loaded = Conversation().with_question("one").with_answer(replace(_TIMED, load_seconds=2.5))

    assert _details("en", _TWO) == [
        ["Prompt tokens", "1,200", "1,210"],
        ["Cached prompt tokens", "1,150", "1,150"],
        ["Completion tokens", "34", "39"],
        ["Total tokens", "1,234", "1,249"],
        ["Time to first token", "0.13 s", ""],
        ["Total time", "1.00 s", ""],
        ["Tokens/s", "98.4", ""],
        ["Finish reason", "finished", ""],
    ]
    assert ["Model loading time", "2.50 s", ""] in _details("en", loaded)


def test_each_answer_has_a_bar_in_the_colour_of_its_engine() -> None:
    slow = replace(_TIMED, model="alt · Pipeline", timings=Timings(0.1, 1.0, 49.22))
    html = render_usage("ro", _TWO.with_question("three").with_answer(slow))

    bars = re.findall(r'<i class="(\S+)" style="height: (\S+)"', html)
    assert bars == [("onnxruntime-genai", "100.0%"), ("transformers", "50.0%")]
    assert "2. m · ONNX: 98,4 tokeni/s" in html
    assert [text for text in _read(html).texts("span") if text in ("ONNX", "Pipeline")] == ["ONNX", "Pipeline"]


def test_an_imported_answer_has_neither_an_engine_nor_dashes() -> None:
    imported = Conversation().with_question("one").with_answer(Answer("", "a"))

    html = render_usage("en", imported)
    assert _pairs("en", imported) == [("Answers", "1")]
    assert _read(html).texts("h2") == ["This conversation"]
    measured = render_usage("en", imported.with_question("two").with_answer(_TIMED))
    assert "Python" not in measured
    assert measured.count("<li title=") == 1


def test_before_the_first_answer_there_is_a_hint_and_a_link_to_all_usage() -> None:
    page = _read(render_usage("en", Conversation().with_question("one"), answers=1204))

    assert page.texts("p", "h2", "dt", "td") == ["Token counts appear after the first answer."]
    assert page.texts("span", "em") == ["All my usage", "1,204 answers", "Ratings", "Evaluations"]


def test_the_trace_of_the_answer_is_linked() -> None:
    linked = render_usage("en", _TWO, trace=lambda turn: Link(f"http://mlflow/{turn.id}", "MLflow"))

    turn = _TWO.turns[-1].id
    assert f'href="http://mlflow/{turn}"' in linked
    assert f"tr-{turn[:4]}…" in _read(linked).texts("em")
    assert "This trace in MLflow" not in render_usage("en", _TWO)


@settings(deadline=None)
@given(languages, hostile_texts)
def test_no_value_is_html(language: str, model: str) -> None:
    def elements(name: str) -> list[str]:
        conversation = Conversation().with_question("one").with_answer(replace(_TIMED, model=name))
        return [tag for tag, _ in _read(render_usage(language, conversation)).elements]

    assert elements(model) == elements("a")


def test_disabled_evaluations_show_the_reason() -> None:
    off = render_usage("en", _TWO, evaluations_off='"Off" here.')
    assert 'name="evaluations" value="" aria-disabled="true" title="&#34;Off&#34; here."' in off
    assert off.count("aria-disabled") == 1
    assert "aria-disabled" not in render_usage("en", _TWO)
