"""Parsing the output of third-party models, in all its forms."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.types.llm import ChatChoiceDelta, ChatChunkChoice, ChatCompletionChunk

from phi3_ui.chat.types import Usage
from phi3_ui.contracts.parsing import NoTextError, ParsedChunk, parse_chunk, parse_finish_reason, parse_usage

CHUNK = ChatCompletionChunk(choices=[ChatChunkChoice(delta=ChatChoiceDelta(role="assistant", content="text"))])


@pytest.mark.parametrize(
    "value",
    [
        "text",
        ["text"],
        ("text", "of a second row"),
        [["text"]],
        np.array(["text", "more"]),
        np.array(["text"], dtype=object),
        np.array("text"),
        np.str_("text"),
        pd.Series(["text"], index=[7]),
        pd.DataFrame({"answer": ["text", "more"]}),
        pd.DataFrame({"content": ["text"], "score": [0.5]}),
        {"answer": "text"},
        {"answer": ["text"]},
        {"content": "text", "role": "assistant"},
        {"text": "text", "score": 0.5},
        {"content": [{"type": "text", "text": "te"}, {"type": "image"}, {"type": "text", "text": "xt"}]},
        {"choices": [{"text": "text"}]},
        {"choices": [{"message": {"content": "text"}}, {"message": {"content": "another"}}], "model": "m"},
        {"choices": [{"delta": {"content": "text"}}]},
        [{"choices": [{"text": "text"}]}],
        pytest.param(CHUNK, id="ChatCompletionChunk"),  # its repr contains the time
    ],
    ids=repr,
)
def test_the_text_is_found(value: Any) -> None:
    assert parse_chunk(value).text == "text"


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        0.5,
        [],
        {},
        np.array([0.5]),
        np.array([]),
        pd.DataFrame(),
        pd.DataFrame({"a": ["x"], "b": ["y"]}),
        b"x",
        {"choices": [None]},
        {"choices": ["hello"]},
        {"content": 5},
        {"choices": [{"message": {"content": {"a": 1}}}]},
    ],
    ids=repr,
)
def test_a_value_without_text_is_an_error(value: Any) -> None:
    with pytest.raises(NoTextError, match="text"):
        parse_chunk(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        {"content": None, "role": "assistant"},
        {"choices": []},
        {"choices": [{"delta": {}}]},
        {"choices": [{"delta": {"content": None}}]},
    ],
    ids=repr,
)
def test_empty_content_is_an_empty_chunk(value: Any) -> None:
    assert parse_chunk(value) == ParsedChunk()


def test_usage_and_finish_reason_are_parsed() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}

    assert parse_chunk({"choices": [{"text": "a", "finish_reason": "length"}], "usage": usage}) == ParsedChunk(
        "a", Usage(3, 4), "length"
    )
    assert parse_chunk({"choices": [], "usage": usage}) == ParsedChunk(usage=Usage(3, 4))
    assert parse_chunk({"text": "a", "finish_reason": "stop", "usage": usage}) == ParsedChunk("a", Usage(3, 4), "stop")


@pytest.mark.parametrize(
    ("value", "usage"),
    [
        ({"input_tokens": 1, "output_tokens": 2}, Usage(1, 2)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, 0)),
        ({"prompt_tokens": 1}, None),
        ({"prompt_tokens": 1, "completion_tokens": None}, None),
        ({}, None),
        (None, None),
        ("12", None),
    ],
    ids=repr,
)
def test_usage_is_unknown_unless_both_counts_are_there(value: Any, usage: Usage | None) -> None:
    assert parse_usage(value) == usage


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        (None, None),
        ("", None),
        ("stop", "stop"),
        ("length", "length"),
        ("max_output_tokens", "length"),
        ("eos", "stop"),
    ],
)
def test_finish_reasons_are_mapped_to_ours(reason: str | None, ours: str | None) -> None:
    assert parse_finish_reason(reason) == ours


@pytest.mark.parametrize("counts", [(-4, 3), (True, 3), ("4", 3), (4, None)], ids=repr)
def test_invalid_counts_are_unknown(counts: tuple[Any, Any]) -> None:
    usage = dict(zip(("prompt_tokens", "completion_tokens"), counts, strict=True))
    assert parse_chunk({"choices": [{"text": "a"}], "usage": usage}).usage is None


def test_parts_of_a_message_may_be_anything() -> None:
    assert parse_chunk({"content": ["te", None, 5, {"text": "xt"}, {"text": 7}]}).text == "text"
