"""Which fields of a request are applied, rejected by name, or accepted without effect."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from phi3_ui.api.schemas import (
    ChatCompletionRequest,
    ChatMessage,
    CompletionRequest,
    InputItem,
    ResponseRequest,
    StreamOptions,
)
from phi3_ui.paths import ROOT

_CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
_PROMPT = {"model": "m", "prompt": "Hi"}
_INPUT = {"model": "m", "input": "Hi"}
_FORMAT = {"type": "json_object"}


@pytest.mark.parametrize(
    ("schema", "body", "fields"),
    [
        (
            ChatCompletionRequest,
            _CHAT,
            {
                "tools": [{"type": "function"}],
                "functions": [{"name": "f"}],
                "tool_choice": "required",
                "function_call": {"name": "f"},
                "logit_bias": {"50256": -100},
                "logprobs": True,
                "top_logprobs": 3,
                "modalities": ["text", "audio"],
                "audio": {"voice": "alloy", "format": "wav"},
                "prediction": {"type": "content", "content": "x"},
                "response_format": _FORMAT,
                "web_search_options": {"search_context_size": "low"},
                "n": 2,
            },
        ),
        (
            CompletionRequest,
            _PROMPT,
            {"logit_bias": {"1": 1}, "logprobs": 0, "best_of": 2, "echo": True, "suffix": "x", "n": 2},
        ),
        (
            ResponseRequest,
            _INPUT,
            {
                "tools": [{"type": "web_search"}],
                "tool_choice": "required",
                "text": {"format": _FORMAT},
                "top_logprobs": 3,
                "background": True,
                "conversation": "conv_1",
                "include": ["reasoning.encrypted_content"],
                "prompt": {"id": "pmpt_1"},
                "logit_bias": {"1": 1},
            },
        ),
    ],
    ids=["chat completion", "completion", "response"],
)
def test_unsupported_fields_that_would_change_the_answer_are_refused_by_name(
    schema: type[BaseModel], body: dict[str, Any], fields: dict[str, Any]
) -> None:
    schema.model_validate(body)
    for name, value in {**fields, "invented": 1}.items():
        with pytest.raises(ValidationError) as refused:
            schema.model_validate({**body, name: value})
        assert [error["loc"] for error in refused.value.errors()] == [(name,)]


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        (ChatCompletionRequest, {**_CHAT, **{f"k{number}": 1 for number in range(5000)}}),
        (ChatCompletionRequest, {"model": "m", "messages": [{f"k{number}": 1 for number in range(5000)}]}),
        (ChatCompletionRequest, {"model": "m", "messages": [{}] * 5000}),
        (ChatCompletionRequest, {**_CHAT, "modalities": [1] * 5000}),
        (ChatCompletionRequest, {**_CHAT, "stop": [1] * 5000}),
        (ResponseRequest, {"model": "m", "input": [{}] * 5000}),
        (ResponseRequest, {**_INPUT, "metadata": {f"k{number}": 1 for number in range(5000)}}),
    ],
)
def test_thousands_of_mistakes_are_not_listed(schema: type[BaseModel], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        schema.model_validate(body)
    assert refused.value.error_count() <= 3


@pytest.mark.parametrize("metadata", [{"a": "x" * 513}, {"a" * 65: "x"}, {"a": {"b": "c"}}, {"a": float("inf")}])
def test_a_response_repeats_no_more_metadata_than_openai_allows(metadata: object) -> None:
    ResponseRequest.model_validate({**_INPUT, "metadata": {"a": "x" * 512}})
    with pytest.raises(ValidationError, match="metadata"):
        ResponseRequest.model_validate({**_INPUT, "metadata": metadata})


def test_each_field_without_effect_is_documented() -> None:
    documented = (
        (ROOT / "docs" / "api.md").read_text(encoding="utf-8").partition("no effect on the answer")[2].split("##")[0]
    )
    schemas = (ChatCompletionRequest, CompletionRequest, ResponseRequest, ChatMessage, InputItem, StreamOptions)
    unused = {
        name
        for schema in schemas
        for name, field in schema.model_fields.items()
        if field.annotation is Any and not field.metadata
    }
    assert {"user", "reasoning_effort", "service_tier"} <= unused
    assert {name for name in unused if f"`{name}`" not in documented} == set()
