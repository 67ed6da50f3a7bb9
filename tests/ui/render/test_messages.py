"""The chat's data: texts exactly as written, each answer with its caption."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi3_ui.chat.conversation import Answer, Conversation, Feedback, TurnRequest
from phi3_ui.chat.running_turn import TurnSnapshot
from phi3_ui.chat.types import FinishReason, PrefillProgress, Timings, Usage
from phi3_ui.errors import SENTENCES
from phi3_ui.paths import ROOT
from phi3_ui.ui.render.messages import Caption, RunningAnswer, chat_messages, running_message, with_running
from phi3_ui.ui.render.mlflow_links import Link

_FULL = Answer("phi-3 · ONNX", "Hello!", Usage(37, 59), Timings(0.1, 0.7, 98.4), "stop")


def _caption(answer: Answer, language: str = "en") -> Caption:
    """Return the caption of the answer to one question."""
    conversation = Conversation().with_question("Hi").with_answer(answer)
    question, shown = chat_messages(language, conversation)
    assert question == {"role": "user", "content": "Hi", "turn": conversation.leaf}
    assert shown["turn"] == conversation.leaf
    assert (shown["role"], shown["content"]) == ("assistant", answer.text)
    return shown["caption"]


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_texts_are_unchanged(question: str, finished: str, running: str) -> None:
    first = Conversation().with_question(question).with_answer(Answer("m", finished))
    messages = chat_messages("en", first.with_question(question), RunningAnswer(TurnSnapshot("decode", running)))

    assert [(message["role"], message["content"]) for message in messages] == [
        ("user", question),
        ("assistant", finished),
        ("user", question),
        ("assistant", running),
    ]


@pytest.mark.parametrize(
    ("language", "parts", "short"),
    [
        ("en", ["37 in", "59 out", "first token 0.10 s", "98 tokens/s"], ["37 + 59", "0.10 s", "98/s"]),
        ("ro", ["37 la intrare", "59 la ieșire", "primul token 0,10 s", "98 tokeni/s"], ["37 + 59", "0,10 s", "98/s"]),
    ],
)
def test_a_finished_answer_has_its_model_and_metrics_below(language: str, parts: list[str], short: list[str]) -> None:
    caption = _caption(_FULL, language)

    assert (caption["kind"], caption["model"], caption["parts"]) == ("answer", "phi-3", parts)
    assert caption["short"] == short
    assert not {"error", "variants", "link"} & caption.keys()


def test_unknown_metrics_are_left_out() -> None:
    assert _caption(Answer("m", "Hello!", None, Timings(None, 0.7, None), "stop"))["parts"] == []


@pytest.mark.parametrize(
    ("language", "sentence"),
    [("en", "your next question loads it again"), ("ro", "următoarea întrebare îl încarcă din nou")],
)
def test_a_model_that_was_terminated_with_its_answer_is_named(language: str, sentence: str) -> None:
    caption = _caption(replace(_FULL, finish_reason="cancelled", ended_model=True), language)
    assert sentence in caption["parts"][-1]


@pytest.mark.parametrize(
    ("language", "reason", "words"),
    [
        ("en", "length", "cut off at max tokens"),
        ("en", "cancelled", "stopped"),
        ("ro", "length", "întrerupt la numărul maxim de tokeni"),
        ("ro", "cancelled", "oprit"),
    ],
)
def test_an_answer_that_did_not_finish_normally_shows_the_reason(
    language: str, reason: FinishReason, words: str
) -> None:
    assert _caption(Answer("m", "Once up", Usage(3, 2), None, reason), language)["parts"][-1] == words


@pytest.mark.parametrize(("language", "words"), [("en", "failed"), ("ro", "eșuat")])
def test_a_failed_answer_keeps_its_text_and_shows_what_to_do(language: str, words: str) -> None:
    error: tuple[str, dict[str, str | int]] = ("model_crashed", {"model": "<b>", "detail": "ended by SIGKILL"})

    caption = _caption(Answer("m", "a ti", error=error), language)

    sentence = SENTENCES["model_crashed"].format(model="<b>", detail="ended by SIGKILL") + " The text so far is kept."
    assert (caption["error"] == sentence) == (language == "en")
    assert "ended by SIGKILL" in caption["error"]
    assert caption["parts"] == [words]


def test_an_answer_without_text_is_only_a_caption() -> None:
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
def test_a_waiting_answer_shows_what_it_waits_for(language: str, state: TurnSnapshot, words: str) -> None:
    conversation = Conversation().with_question("<Hi>")

    assert chat_messages(language, conversation, RunningAnswer(state, "m · ONNX")) == [
        {"role": "user", "content": "<Hi>", "turn": conversation.leaf},
        {
            "role": "assistant",
            "content": "",
            "turn": conversation.leaf,
            "badge": {"short": "ONNX", "engine": "ONNX"},
            "caption": {"kind": "waiting", "parts": [words]},
        },
    ]


def test_the_answer_in_progress_is_drawn_alone() -> None:
    conversation = Conversation().with_question("Hi").with_answer(_FULL).with_question("And?")
    messages = chat_messages("en", conversation, RunningAnswer(TurnSnapshot("prefill"), "m"))

    running = running_message("en", conversation, RunningAnswer(TurnSnapshot("decode", "So"), "m"))

    assert running
    assert with_running(messages, running) == [*messages[:-1], running]
    assert with_running(messages[:-1], running) == [*messages[:-1], running], "it was not drawn before"
    answered = conversation.with_answer(_FULL)
    assert running_message("en", answered, RunningAnswer(TurnSnapshot("done", "So"), "m")) is None
    assert running_message("en", Conversation(), RunningAnswer(TurnSnapshot("prefill"))) is None


def test_another_model_is_announced_before_its_answer_begins() -> None:
    conversation = (
        Conversation().with_question("Hi").with_answer(replace(_FULL, model="one · ONNX")).with_question("And?")
    )

    *_, note, question = chat_messages("en", conversation, RunningAnswer(None, "two · ONNX"))

    assert note.get("caption", {}).get("parts") == ["two answers from here"]
    assert question["content"] == "And?"
    assert running_message("en", conversation, RunningAnswer(None, "two · ONNX")) is None


def test_an_unanswered_question_has_no_answer_row() -> None:
    conversation = Conversation().with_question("Hi", TurnRequest(1.5, "m-1"))

    assert chat_messages("en", conversation) == [
        {"role": "user", "content": "Hi", "turn": conversation.leaf, "time": 1.5}
    ]
    assert chat_messages("en", Conversation()) == []


@pytest.mark.parametrize(
    ("label", "badge"),
    [
        ("m · ONNX", {"short": "ONNX", "engine": "ONNX"}),
        ("m · Pipeline", {"short": "TF", "engine": "Pipeline"}),
        ("m · Python", {"short": "PY", "engine": "Python"}),
        ("gpt-4o", {"short": "GPT-", "engine": "gpt-4o"}),
        ("", None),
    ],
)
def test_an_answer_has_the_badge_of_its_engine(label: str, badge: dict[str, str] | None) -> None:
    conversation = Conversation().with_question("Hi").with_answer(Answer(label, "Hello"))

    assert chat_messages("en", conversation)[-1].get("badge") == badge


def test_a_note_shows_where_another_model_begins_to_answer() -> None:
    first, second = Answer("one · ONNX", "1"), Answer("two · ONNX", "2")
    conversation = Conversation().with_question("a").with_answer(first).with_question("b").with_answer(second)
    conversation = conversation.with_question("c").with_answer(second).with_question("d")

    messages = chat_messages("en", conversation, RunningAnswer(TurnSnapshot("decode", "1"), "one · ONNX"))

    contents = [message["content"] or message["caption"]["parts"][0] for message in messages]
    assert contents == ["a", "1", "two answers from here", "b", "2", "c", "2", "one answers from here", "d", "1"]


def test_every_button_has_an_existing_icon_or_a_text() -> None:
    icons = set(re.findall(r'<symbol id="([^"]+)"', (ROOT / "phi3_ui/ui/static/icons.svg").read_text(encoding="utf-8")))
    actions = _caption(replace(_FULL, finish_reason="length"))["actions"]

    assert [action["name"] for action in actions if "icon" not in action] == ["continue"]
    assert {action["icon"] for action in actions if "icon" in action} <= icons


def test_a_request_to_continue_is_a_note() -> None:
    cut_answer, request = Answer("m", "Once up", Usage(3, 2), None, "length"), TurnRequest(0.0, "m-1", continues=True)
    conversation = (
        Conversation()
        .with_question("a")
        .with_answer(cut_answer)
        .with_question("Go on.", request)
        .with_answer(cut_answer)
    )

    *_, note, answer = chat_messages("en", conversation)

    assert note["caption"] == {"kind": "continued", "parts": ["Continued"]}
    assert "edit" not in [action["name"] for action in answer["caption"]["actions"]]


def test_a_question_shows_the_token_counts_of_its_files() -> None:
    [question] = chat_messages("en", Conversation().with_question("File: a.md\n```md\n0123456789\n```\n\nWhat is it?"))
    assert question["files"] == ["≈ 8 tokens"]
    conversation = Conversation().with_question("File: a.md\n```md\n0123456789\n```\n\nWhat is it?")
    assert chat_messages("en", conversation, count_files=lambda _: [12])[0]["files"] == ["12 tokens"]
    assert "files" not in chat_messages("en", Conversation().with_question("What is it?"))[0]


def test_only_the_last_cut_off_answer_can_be_continued() -> None:
    cut_answer = Answer("m", "Once up", Usage(3, 2), None, "length")
    conversation = Conversation().with_question("a").with_answer(cut_answer).with_question("b").with_answer(cut_answer)

    names = [
        [action["name"] for action in message["caption"]["actions"]]
        for message in chat_messages("en", conversation)[1::2]
    ]

    assert ["continue" in actions for actions in names] == [False, True]
    assert "continue" not in [action["name"] for action in _caption(_FULL)["actions"]]
    empty = Answer("m", "", Usage(3, 2), None, "length")
    assert "continue" not in [action["name"] for action in _caption(empty)["actions"]]


def test_an_answered_turn_has_its_buttons_and_variants() -> None:
    first = Conversation().with_question("<Hi>").with_answer(_FULL)
    two_variants = first.with_variant(first.turns[0].id).with_answer(Answer("m", "", error=("no_model", {})))
    turn = first.turns[0].id

    def read_buttons(conversation: Conversation) -> dict[str, str]:
        caption = chat_messages("en", conversation)[-1]["caption"]
        actions = caption["actions"] + caption["more"]
        assert {action["value"] for action in actions} == {conversation.leaf}
        return {action["name"]: action["label"] for action in actions}

    assert read_buttons(first) == {
        "retry": "Retry",
        "edit": "Edit this question",
        "good": "Good answer",
        "bad": "Bad answer",
        "reproduce": "Reproduce this answer in Python",
        "compare": "Compare this answer with …",
        "undo": "Remove this turn",
    }
    rated = chat_messages("en", first.with_feedback(turn, Feedback(False)))[-1]["caption"]["actions"]
    assert {action["name"]: action["pressed"] for action in rated if "pressed" in action} == {
        "good": False,
        "bad": True,
    }
    assert list(read_buttons(two_variants)) == ["retry", "edit", "undo", "compare"], (
        "without text there is nothing to rate"
    )
    variants = chat_messages("en", two_variants)[-1]["caption"]["variants"]
    assert (variants["position"], variants["count"], variants["next"]) == (2, 2, None)
    assert variants["previous"]
    assert (variants["previous"]["name"], variants["previous"]["value"]) == ("show", turn)


def test_an_answer_links_to_its_trace_while_mlflow_is_available() -> None:
    answered = Conversation().with_question("Hi").with_answer(_FULL)

    messages = chat_messages("en", answered, link=lambda turn: Link(f"http://mlflow/{turn.id}", "MLflow", "Trace"))

    url = f"http://mlflow/{answered.leaf}"
    assert messages[-1]["caption"]["link"] == {"url": url, "label": "MLflow", "title": "Trace"}


def test_an_undone_turn_can_be_redone() -> None:
    conversation = Conversation().with_question("one").with_answer(_FULL)

    (message,) = chat_messages("en", conversation.without_last_turn())

    (action,) = message["caption"]["actions"]
    assert (action["name"], action["value"], action["label"]) == ("show", conversation.turns[0].id, "Redo")
    assert chat_messages("en", conversation.without_last_turn(), RunningAnswer(TurnSnapshot("prefill"))) == []
