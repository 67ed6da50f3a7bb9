"""All my usage: what is drawn, one colour per model, the totals, and that no value is parsed as HTML."""

import re
from dataclasses import replace

from hypothesis import given, settings

from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.types import Timings, Usage
from phi3_ui.store.conversations.history import TurnMetrics
from phi3_ui.ui.render.usage_overview import render_usage_overview
from tests.support.hostile import hostile_texts, languages
from tests.support.html import ParsedPage

_DAY = 86_400
_MAY_17 = 1_715_938_200.0  # 2024-05-17 09:30 UTC
_ONNX = TurnMetrics("c", "t1", _MAY_17, "phi-3 · ONNX", "m-1", "stop", 100, 20, 0.5, 10.0)
_PIPELINE = replace(
    _ONNX, turn_id="t2", asked_at=_MAY_17 + _DAY, model="phi-3 · Pipeline", model_id="m-2", prompt_tokens=300
)
_UNKNOWN = replace(
    _ONNX,
    turn_id="t3",
    asked_at=_MAY_17 + _DAY,
    prompt_tokens=None,
    completion_tokens=None,
    time_to_first_token=None,
    tokens_per_second=None,
)
_ANSWER = Answer("phi-3 · Pipeline", "a", Usage(300, 20, 200), Timings(0.5, 1.0, 10.0), "stop")
_CHAT = Conversation().with_question("one", TurnRequest(0.0, "m-2")).with_answer(_ANSWER)
_NONE = Conversation()


def _read(language: str, metrics: list[TurnMetrics], chat: Conversation = _NONE) -> ParsedPage:
    return ParsedPage(render_usage_overview(language, metrics, chat), "h2", "h3", "figcaption", "span", "b")


def _colors(html: str, figure: str) -> list[str]:
    _, _, rest = html.partition(f"<figcaption>{figure}</figcaption>")
    return re.findall(r"background: var\((\S+)\)", rest.partition("</figure>")[0])


def test_a_model_has_one_colour_in_all_charts() -> None:
    html = render_usage_overview("en", [_ONNX, _PIPELINE], _CHAT)

    assert _colors(html, "Tokens by day") == ["--engine-onnxruntime-genai", "--engine-transformers"]
    assert _colors(html, "Time to first token, median") == ["--engine-onnxruntime-genai", "--engine-transformers"]
    assert _colors(html, "Tokens/s, median") == ["--engine-onnxruntime-genai", "--engine-transformers"]
    assert _colors(html, "Tokens by answer") == ["--seg-cached", "--seg-prompt", "--seg-answer"]
    assert _colors(html, "Time to first token by answer") == ["--engine-transformers"]
    assert _colors(html, "Tokens/s by answer") == ["--engine-transformers"]
    legend = re.findall(r"<li><i [^>]*var\((\S+?)\)[^>]*></i><span>(.*?)</span>", html)
    assert legend[:2] == [("--engine-onnxruntime-genai", "phi-3 · ONNX"), ("--engine-transformers", "phi-3 · Pipeline")]


def test_further_models_of_an_engine_have_their_own_colours() -> None:
    others = [replace(_ONNX, turn_id=name, model=f"{name} · ONNX") for name in ("a", "b", "c")]
    html = render_usage_overview("en", [*others, _PIPELINE], _NONE)

    assert _colors(html, "Tokens/s, median") == [
        "--engine-onnxruntime-genai",
        "--series-3",
        "--series-4",
        "--engine-transformers",
    ]


def test_texts_numbers_and_dates_of_charts_follow_the_language() -> None:
    later = replace(_ONNX, turn_id="t4", asked_at=_MAY_17 + 3600, time_to_first_token=0.7, tokens_per_second=30.0)
    page = _read("ro", [_ONNX, later, _PIPELINE, _UNKNOWN])

    assert page.texts("h2", "h3") == ["Tot consumul meu", "Toate conversațiile mele", "Totaluri"]
    drawn = page.texts("span")
    assert {"Tokeni", "17 mai", "18 mai", "Ziua (UTC)"} <= set(drawn)
    values = page.texts("td", "b")
    assert {"240", "320", "0,60 s", "0,50 s", "20,0 tokeni/s", "10,0 tokeni/s"} <= set(values)


def test_only_the_last_answers_of_a_long_chat_are_drawn() -> None:
    chat = _NONE
    for number in range(30):
        chat = chat.with_question(str(number), TurnRequest(0.0, "m-2")).with_answer(_ANSWER)

    html = render_usage_overview("en", [_PIPELINE], chat)

    assert len(_colors(html, "Tokens/s by answer")) == 20
    rows = re.findall(r'<th scope="row">(\d+)</th>', html)
    assert rows[:20] == [str(number) for number in range(11, 31)]


def test_without_known_values_nothing_is_drawn() -> None:
    assert _read("en", [_UNKNOWN]).texts("figcaption") == []
    empty = _read("en", [])
    assert (empty.texts("figcaption"), empty.texts("p")) == ([], ["Token counts appear after the first answer."])


def test_models_of_the_same_name_are_distinguished() -> None:
    page = _read("en", [_ONNX, replace(_ONNX, model_id="m-77777777777"), replace(_ONNX, model="")])

    assert page.texts("span")[:3] == ["phi-3 · ONNX (m-1)", "phi-3 · ONNX (m-777777)", "unknown"]


def test_totals_are_listed_by_model_by_recent_day_and_overall() -> None:
    html = render_usage_overview("en", [_ONNX, _PIPELINE, replace(_UNKNOWN, model="new", model_id="m-3")], _NONE)
    _, _, table = html.partition('<table class="phi3-table-figures">')
    rows = [
        [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", table)
    ]

    assert rows == [
        ["", "Answers", "Prompt tokens", "Completion tokens"],
        ["By model"],
        ["new", "1", "—", "—"],
        ["phi-3 · ONNX", "1", "100", "20"],
        ["phi-3 · Pipeline", "1", "300", "20"],
        ["Recent days (UTC)"],
        ["18 May 2024", "2", "300", "20"],
        ["17 May 2024", "1", "100", "20"],
        ["Total", "3", "400", "40"],
    ]


@settings(deadline=None)
@given(languages, hostile_texts, hostile_texts)
def test_no_value_is_html(language: str, model: str, other: str) -> None:
    def render_page(first: str, second: str) -> ParsedPage:
        return _read(language, [replace(_ONNX, model=first), replace(_ONNX, model=second, model_id="x")], _CHAT)

    page, plain = render_page(model, other), render_page("a", "b")
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in plain.elements}
    names = [{name for _, attributes in html.elements for name, _ in attributes} for html in (page, plain)]
    assert names[0] == names[1]
    shown = page.texts("span")
    assert all(any(text.startswith(name) for text in shown) for name in (model, other))
