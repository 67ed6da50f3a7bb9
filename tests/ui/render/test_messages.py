"""What the chat draws: raw HTML stays text, code and maths stay as written, each answer has its caption."""

import re

import pytest

from phi3_ui.chat.conversation import Answer, Conversation, Feedback
from phi3_ui.chat.running_turn import TurnSnapshot
from phi3_ui.chat.types import FinishReason, PrefillProgress, Timings, Usage
from phi3_ui.errors import SENTENCES
from phi3_ui.ui.render.messages import chatbot_messages

_FULL = Answer("phi-3 · ONNX", "Hello!", Usage(37, 59), Timings(0.1, 0.7, 98.4), "stop")


def _chat(answer: Answer, language: str = "en") -> list[dict[str, str]]:
    """The messages of one answered question, without the question."""
    question, *rest = chatbot_messages(language, Conversation().with_question("Hi").with_answer(answer))
    assert question == {"role": "user", "content": "Hi"}
    caption, acts, _ = rest[-1]["content"].partition('<span class="phi3-actions">')
    assert acts
    return [*rest[:-1], {**rest[-1], "content": caption}]


def test_a_finished_answer_has_its_name_and_figures_below() -> None:
    text, caption = _chat(_FULL)

    assert text == {"role": "assistant", "content": "Hello!"}
    assert caption["role"] == "assistant"
    assert caption["content"] == (
        '<span class="phi3-by"><b>phi-3 · ONNX</b> · 37 + 59 tokens · 0.10 s · 98 tokens/s</span>'
    )


def test_the_caption_speaks_romanian() -> None:
    assert " · 37 + 59 de tokeni · 0,10 s · 98 tokeni/s<" in _chat(_FULL, "ro")[-1]["content"]


def test_figures_that_are_not_known_are_left_out() -> None:
    [_, caption] = _chat(Answer("m", "Hello!", None, Timings(None, 0.7, None), "stop"))

    assert caption["content"] == '<span class="phi3-by"><b>m</b></span>'


@pytest.mark.parametrize(
    ("language", "reason", "words"),
    [
        ("en", "length", "cut at max tokens"),
        ("en", "cancelled", "stopped"),
        ("ro", "length", "tăiat la numărul maxim de tokeni"),
        ("ro", "cancelled", "oprit"),
    ],
)
def test_an_answer_that_did_not_end_by_itself_says_so(language: str, reason: FinishReason, words: str) -> None:
    answer = Answer("m", "Once up", Usage(3, 2), None, reason)

    text, caption = _chat(answer, language)

    assert text["content"] == "Once up"
    assert caption["content"].endswith(f" · {words}</span>")


@pytest.mark.parametrize(("language", "words"), [("en", "failed"), ("ro", "eșuat")])
def test_a_failed_answer_keeps_its_text_and_says_what_to_do(language: str, words: str) -> None:
    error: tuple[str, dict[str, str | int]] = ("model_crashed", {"model": "<b>", "detail": "ended by SIGKILL"})

    text, caption = _chat(Answer("m", "a ti", error=error), language)

    sentence = SENTENCES["model_crashed"].format(model="&lt;b&gt;", detail="ended by SIGKILL")
    assert text["content"] == "a ti"
    assert caption["content"].startswith('<span class="phi3-error">&lt;b&gt; ')
    assert (sentence in caption["content"]) == (language == "en")
    assert "ended by SIGKILL" in caption["content"]
    assert caption["content"].endswith(f" · {words}</span>")


def test_an_answer_without_text_is_its_caption_only() -> None:
    [caption] = _chat(Answer("m", "", error=("model_gone", {})))

    assert SENTENCES["model_gone"] in caption["content"]


def test_a_models_name_is_text() -> None:
    [_, caption] = _chat(Answer('<img src="x">', "a", finish_reason="stop"))

    assert "<img" not in caption["content"]


@pytest.mark.parametrize(
    ("language", "state", "words"),
    [
        ("en", TurnSnapshot("loading"), "Loading the model …"),
        ("ro", TurnSnapshot("loading"), "Se încarcă modelul …"),
        ("en", TurnSnapshot("prefill"), "Processing the prompt …"),
        ("en", TurnSnapshot("prefill", progress=PrefillProgress(0, 70)), "Processing the prompt …"),
        ("en", TurnSnapshot("prefill", progress=PrefillProgress(64, 70)), "Processing the prompt … 64 of 70 tokens"),
        (
            "ro",
            TurnSnapshot("prefill", progress=PrefillProgress(64, 70)),
            "Se procesează promptul … 64 din 70 de tokeni",
        ),
    ],
)
def test_an_answer_that_is_waited_for_says_for_what(language: str, state: TurnSnapshot, words: str) -> None:
    assert chatbot_messages(language, Conversation().with_question("<Hi>"), state) == [
        {"role": "user", "content": "&lt;Hi>"},
        {"role": "assistant", "content": f'<span class="phi3-wait">{words}</span>'},
    ]


def test_an_answer_that_comes_shows_its_text_so_far() -> None:
    first = Conversation().with_question("one").with_answer(_FULL)

    messages = chatbot_messages("en", first.with_question("two"), TurnSnapshot("decode", "1 < 2"))

    assert messages[:2] == chatbot_messages("en", first)[:2]
    assert messages[3:] == [{"role": "user", "content": "two"}, {"role": "assistant", "content": "1 &lt; 2"}]


def test_a_question_nobody_answers_stands_alone() -> None:
    assert chatbot_messages("en", Conversation().with_question("Hi")) == [{"role": "user", "content": "Hi"}]
    assert chatbot_messages("en", Conversation()) == []


def test_an_answered_turn_has_its_buttons_and_versions() -> None:
    first = Conversation().with_question("<Hi>").with_answer(_FULL)
    both = first.with_variant(first.turns[0].id).with_answer(Answer("m", "", error=("no_model", {})))

    def buttons(conversation: Conversation) -> list[tuple[str, str, str]]:
        content = chatbot_messages("en", conversation)[-1]["content"]
        return re.findall(r'<button class="phi3-action" name="(\w+)" value="(\w+)"[^>]*>([^<]*)</button>', content)

    turn = first.turns[0].id
    assert [(name, words) for name, value, words in buttons(first)] == [
        ("retry", "Retry"),
        ("edit", "Edit"),
        ("undo", "Undo"),
        ("good", "Good"),
        ("bad", "Bad"),
        ("reproduce", "Reproduce"),
    ]
    assert {value for _, value, _ in buttons(first)} == {turn}
    assert "✓ Bad" in [words for _, _, words in buttons(first.with_feedback(turn, Feedback(False)))]
    assert [name for name, _, _ in buttons(both)] == ["show", "retry", "edit", "undo"], "there is no text to rate"
    assert buttons(both)[0] == ("show", turn, "‹")
    assert "2/2" in chatbot_messages("en", both)[-1]["content"]


def test_a_question_taken_back_can_be_had_again() -> None:
    talk = Conversation().with_question("one").with_answer(_FULL)

    (message,) = chatbot_messages("en", talk.without_last_turn())

    assert f'<button class="phi3-action" name="show" value="{talk.turns[0].id}"' in message["content"]
    assert ">Redo</button>" in message["content"]
    assert chatbot_messages("en", talk.without_last_turn(), TurnSnapshot("prefill")) == []
