"""Text that not every store accepts is made storable."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.chat.conversation import Answer, Feedback, Turn, TurnRequest
from phi3_ui.chat.types import GenerationParams, Message
from phi3_ui.store.conversations.operations import FeedbackChange, Step, TagChange, TurnRecord, VoteRecord
from phi3_ui.store.conversations.storable_text import make_storable

_BAD = "a\0b\ud800"


def _turn(text: str) -> Turn:
    answer = Answer(text, text, error=("refused", {"model": text, "detail": text}))
    request = TurnRequest(1.0, text, text, GenerationParams(stop=(text,)), text, prefix=text)
    return Turn(text, answer, "t", None, request, Feedback(True, text))


def _operations(text: str) -> list[Step]:
    return [
        TurnRecord("v", "c", _turn(text), text, 1.0, "1", (Message("user", text),)),
        FeedbackChange("v", "c", "t", Feedback(False, text)),
        TagChange("v", "c", "t", "phi3_ui.title", text),
        VoteRecord("v", "c", ("t",), "tie", 1.0, None, text),
    ]


@pytest.mark.parametrize("operation", _operations(_BAD), ids=lambda operation: type(operation).__name__)
def test_operations_are_cleaned_of_text_that_a_store_refuses(operation: Step) -> None:
    stored = make_storable(operation)

    written = json.dumps(dataclasses.asdict(stored), ensure_ascii=False)
    assert "\\u0000" not in written
    assert "a\ufffdb\ufffd" in written
    written.encode()
    assert type(stored) is type(operation)


@settings(deadline=None)
@given(st.text().filter(lambda text: "\0" not in text))
def test_other_text_is_unchanged(text: str) -> None:
    for operation in _operations(text):
        assert make_storable(operation) is operation
