"""What the chat shows, as data: texts exactly as they were written, each answer with its caption."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi3_ui.chat.conversation import Answer, Conversation, Feedback
from phi3_ui.chat.running_turn import TurnSnapshot
from phi3_ui.chat.types import FinishReason, PrefillProgress, Timings, Usage
from phi3_ui.errors import SENTENCES
from phi3_ui.ui.render.messages import Caption, chat_messages
from phi3_ui.ui.render.mlflow_links import Link

_FULL = Answer("phi-3 · ONNX", "Hello!", Usage(37, 59), Timings(0.1, 0.7, 98.4), "stop")


def _caption(answer: Answer, language: str = "en") -> Caption:
    """The caption of the answer to one question."""
    question, shown = chat_messages(language, Conversation().with_question("Hi").with_answer(answer))
    assert question == {"role": "user", "content": "Hi"}
    assert (shown["role"], shown["content"]) == ("assistant", answer.text)
    return shown["caption"]


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_texts_are_what_was_written(question: str, finished: str, running: str) -> None:
    first = Conversation().with_question(question).with_answer(Answer("m", finished))
    messages = chat_messages("en", first.with_question(question), TurnSnapshot("decode", running))

    assert [(message["role"], message["content"]) for message in messages] == [
        ("user", question),
        ("assistant", finished),
        ("user", question),
        ("assistant", running),
    ]


@pytest.mark.parametrize(
    ("language", "parts"),
    [
        ("en", ["37 + 59 tokens", "0.10 s", "98 tokens/s"]),
        ("ro", ["37 + 59 de tokeni", "0,10 s", "98 tokeni/s"]),
    ],
)
def test_a_finished_answer_has_its_model_and_metrics_below(language: str, parts: list[str]) -> None:
    caption = _caption(_FULL, language)

    assert (caption["kind"], caption["model"], caption["parts"]) == ("answer", "phi-3 · ONNX", parts)
    assert not {"error", "variants", "link"} & caption.keys()


def test_unknown_metrics_are_left_out() -> None:
    assert _caption(Answer("m", "Hello!", None, Timings(None, 0.7, None), "stop"))["parts"] == []


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
    assert _caption(Answer("m", "Once up", Usage(3, 2), None, reason), language)["parts"][-1] == words


@pytest.mark.parametrize(("language", "words"), [("en", "failed"), ("ro", "eșuat")])
def test_a_failed_answer_keeps_its_text_and_says_what_to_do(language: str, words: str) -> None:
    error: tuple[str, dict[str, str | int]] = ("model_crashed", {"model": "<b>", "detail": "ended by SIGKILL"})

    caption = _caption(Answer("m", "a ti", error=error), language)

    sentence = SENTENCES["model_crashed"].format(model="<b>", detail="ended by SIGKILL")
    assert (caption["error"] == sentence) == (language == "en")
    assert "ended by SIGKILL" in caption["error"]
    assert caption["parts"] == [words]


def test_an_answer_without_text_is_its_caption_only() -> None:
    assert _caption(Answer("m", "", error=("model_gone", {})))["error"] == SENTENCES["model_gone"]


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
def test_an_awaited_answer_says_what_it_waits_for(language: str, state: TurnSnapshot, words: str) -> None:
    assert chat_messages(language, Conversation().with_question("<Hi>"), state) == [
        {"role": "user", "content": "<Hi>"},
        {"role": "assistant", "content": "", "caption": {"kind": "waiting", "parts": [words], "actions": []}},
    ]


def test_a_question_nobody_answers_stands_alone() -> None:
    assert chat_messages("en", Conversation().with_question("Hi")) == [{"role": "user", "content": "Hi"}]
    assert chat_messages("en", Conversation()) == []


def test_an_answered_turn_has_its_buttons_and_variants() -> None:
    first = Conversation().with_question("<Hi>").with_answer(_FULL)
    both = first.with_variant(first.turns[0].id).with_answer(Answer("m", "", error=("no_model", {})))
    turn = first.turns[0].id

    def buttons(conversation: Conversation) -> dict[str, str]:
        actions = chat_messages("en", conversation)[-1]["caption"]["actions"]
        assert {action["value"] for action in actions} == {conversation.leaf}
        return {action["name"]: action["label"] for action in actions}

    assert list(buttons(first)) == ["retry", "edit", "undo", "good", "bad", "reproduce"]
    assert buttons(first)["good"] == "Good answer"
    rated = chat_messages("en", first.with_feedback(turn, Feedback(False)))[-1]["caption"]["actions"]
    pressed = {action["name"]: action["pressed"] for action in rated if "pressed" in action}
    assert pressed == {"good": False, "bad": True}
    assert list(buttons(both)) == ["retry", "edit", "undo"], "there is no text to rate"
    variants = chat_messages("en", both)[-1]["caption"]["variants"]
    assert (variants["position"], variants["count"], variants["next"]) == (2, 2, None)
    assert variants["previous"]
    assert (variants["previous"]["name"], variants["previous"]["value"]) == ("show", turn)


def test_an_answer_links_to_its_trace_while_mlflow_is_available() -> None:
    answered = Conversation().with_question("Hi").with_answer(_FULL)

    messages = chat_messages("en", answered, link=lambda turn: Link(f"http://mlflow/{turn.id}", "MLflow", "Trace"))

    url = f"http://mlflow/{answered.leaf}"
    assert messages[-1]["caption"]["link"] == {"url": url, "label": "MLflow", "title": "Trace"}


def test_an_undone_turn_can_be_redone() -> None:
    talk = Conversation().with_question("one").with_answer(_FULL)

    (message,) = chat_messages("en", talk.without_last_turn())

    (action,) = message["caption"]["actions"]
    assert (action["name"], action["value"], action["label"]) == ("show", talk.turns[0].id, "Redo")
    assert chat_messages("en", talk.without_last_turn(), TurnSnapshot("prefill")) == []
