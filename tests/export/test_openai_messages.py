"""Writing chats as OpenAI messages, and reading them."""

import json
from typing import Any

import pytest

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.types import Usage
from phi3_ui.export.archive import to_json
from phi3_ui.export.chat_file import read_chats
from tests.support.conversations import make_conversation, read_rejection, without_ids


def _read(value: Any) -> Conversation:
    return read_chats(json.dumps(value).encode())[0][1]


def test_the_messages_are_the_shown_branch_in_openai_format() -> None:
    failed = make_conversation().with_answer(Answer("phi", "", error=("no_model", {})))
    usage = {
        "prompt_tokens": 37,
        "completion_tokens": 5,
        "total_tokens": 42,
        "prompt_tokens_details": {"cached_tokens": 12},
    }

    assert json.loads(to_json(failed, "t"))["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "uno"},
        {"role": "assistant", "content": "I", "model": "phi", "usage": usage, "finish_reason": "length"},
        {"role": "user", "content": "two"},
    ]


def test_openai_messages_are_read_with_model_usage_and_finish_reason() -> None:
    data = json.loads(to_json(make_conversation(), "t"))
    read = _read({"messages": data["messages"]})

    assert [turn.question for turn in read.turns] == ["uno", "two"]
    assert read.turns[0].answer == Answer("phi", "I", Usage(37, 5, 12), finish_reason="length")
    assert [turn.request and turn.request.system for turn in read.turns] == ["Be brief."] * 2
    assert read.turns[1].answer is None


@pytest.mark.parametrize(
    ("contents", "turns"),
    [
        ([("user", "a"), ("user", "b"), ("assistant", "B")], [("", "a", None), ("", "b", "B")]),
        ([("assistant", "A"), ("assistant", "B")], [("", "", "A"), ("", "", "B")]),
        ([("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])], [("", "ab", None)]),
        ([("user", [])], [("", "", None)]),
        ([("system", "s"), ("developer", "t"), ("user", "a")], [("s\n\nt", "a", None)]),
        (
            [("system", "s"), ("user", "a"), ("assistant", "A"), ("system", "t"), ("user", "b")],
            [("s", "a", "A"), ("t", "b", None)],
        ),
        ([("user", "a"), ("assistant", "A"), ("system", "t"), ("assistant", "B")], [("", "a", "A"), ("t", "", "B")]),
    ],
)
def test_messages_in_any_order_become_turns(
    contents: list[tuple[str, Any]], turns: list[tuple[str, str, str | None]]
) -> None:
    messages = [{"role": role, "content": content} for role, content in contents]

    read = _read(messages)

    assert read.turns == read.tree
    shown = [
        (turn.request.system if turn.request else "", turn.question, turn.answer and turn.answer.text)
        for turn in read.turns
    ]
    assert shown == turns
    assert without_ids(_read({"messages": messages, "title": 5})).leaf == without_ids(read).leaf


def test_imported_messages_are_titled_by_their_title_or_first_question() -> None:
    messages = [{"role": "user", "content": "a\nb"}]

    assert read_chats(json.dumps(messages).encode("utf-16"))[0][0] == "a b"
    assert read_chats(json.dumps({"messages": messages, "title": "T"}).encode("utf-8-sig"))[0][0] == "T"


def _message(**fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": "a", **fields}


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (5, "no messages"),
        ({}, "no messages"),
        ([], "no messages"),
        ({"messages": {"role": "user"}}, "no messages"),
        (["a"], "chat 1: it contains no messages"),
        ([_message(role="tool")], "messages.0.role is unknown"),
        ([_message(), _message(role=[])], "messages.1.role is unknown"),
        ([_message(content=None)], "messages.0.content is not text"),
        ([_message(content=[{"type": "image_url", "image_url": {}}])], "content.0 is not text but image_url"),
        ([_message(content=[{"type": "text"}])], "content.0 is not text but text"),
        ([_message(role="assistant", tool_calls=[{"id": "x"}])], "tool_calls cannot be imported"),
        ([_message(role="system")], "its last message is a system message"),
        ([_message(), _message(role="system"), _message(role="assistant")], "between a question and its answer"),
    ],
)
def test_anything_but_a_chat_is_refused_with_the_reason(value: Any, detail: str) -> None:
    assert detail in read_rejection(json.dumps(value).encode())


def test_a_long_system_prompt_is_not_copied_into_many_turns() -> None:
    messages = [{"role": "system", "content": "s" * 1_000_000}, *[{"role": "user", "content": ""}] * 51]

    assert "system prompt" in read_rejection(json.dumps(messages).encode())
