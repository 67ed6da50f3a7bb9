"""The tokens charged to the daily limit, with and without token counts from the model."""

import pytest

from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.token_use import count_used_tokens
from phi3_ui.chat.types import ChatRequest, FinishReason, Message, Usage

REQUEST = ChatRequest((Message("system", "Be brief."), Message("user", "x" * 391)))


def answer(text: str = "", error: str = "", usage: Usage | None = None, reason: FinishReason = "cancelled") -> Answer:
    if error:
        return Answer("m", text, usage, error=(error, {}))
    return Answer("m", text, usage, finish_reason=reason)


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        (answer("y" * 40, usage=Usage(7, 3), reason="stop"), 10),  # the reported count is used
        (answer(usage=Usage(7, 0)), 7),
        (answer("y" * 40, usage=Usage(7, 0)), 110),  # reported before the answer
        (answer("y" * 40), 110),  # disconnected before the end
        (answer("y" * 40, reason="stop"), 110),  # from a server that never reports usage
        (answer("y" * 40, reason="timeout"), 110),
        (answer(), 100),  # disconnected before the first token: the prompt may have been prefilled
        (answer("y" * 40, "remote_cut"), 110),
        (answer("", "remote_filtered"), 100),
        (answer("", "remote_unreachable"), 0),
        (answer("", "load_failed"), 0),
        (answer("你" * 40), 130),
    ],
)
def test_an_answer_without_token_counts_is_estimated(given: Answer, tokens: int) -> None:
    assert count_used_tokens(REQUEST, given) == tokens


def test_a_raw_prompt_and_the_beginning_of_an_answer_count_once() -> None:
    raw = ChatRequest((Message("user", "x" * 40),), raw_prompt="x" * 40)
    assert count_used_tokens(raw, answer("y" * 4)) == 11
    continued = ChatRequest((Message("user", "x" * 40),), prefix="y" * 40)
    assert count_used_tokens(continued, answer("y" * 44)) == 21
    assert count_used_tokens(continued, answer("y" * 40, "load_failed")) == 0
