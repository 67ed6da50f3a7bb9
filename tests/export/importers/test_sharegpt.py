"""Chats in the ShareGPT format."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from phi3_ui.export.chat_file import read_chats
from tests.export.importers.samples import exchanges, find_refusal, get_answer, get_asked_at, read_chat


def test_a_sharegpt_list_is_imported() -> None:
    messages = [("system", "Be brief."), ("human", "2+2?"), ("gpt", "4"), ("human", "Sure?"), ("gpt", "Yes.")]
    chats = [
        {
            "id": "a",
            "conversations": [{"from": sender, "value": value} for sender, value in messages],
            "model": "gpt-4",
        },
        {
            "title": "T",
            "items": [{"from": "human", "value": "Hi"}],
            "created_at": "2023-04-01T10:00:00Z",
            "tools": "[]",
        },
        {"system": "s", "conversations": [{"from": "gpt", "value": "Hello"}]},
    ]

    (title, first), (other_title, second), (_, third) = read_chats(json.dumps(chats).encode())

    assert (title, exchanges(first)) == ("2+2?", [("2+2?", "4"), ("Sure?", "Yes.")])
    assert [(turn.request and turn.request.system, get_answer(turn).model) for turn in first.turns] == [
        ("Be brief.", "gpt-4")
    ] * 2
    assert (other_title, exchanges(second), get_asked_at(second.turns[0])) == ("T", [("Hi", None)], 1_680_343_200)
    assert exchanges(third) == [("", "Hello")]


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"conversations": [{"from": "observation", "value": "2"}]}, "conversations.0.from is unknown: observation"),
        (
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": None}]},
            "conversations.1.value",
        ),
        ({"conversations": [{"from": "human", "value": "Hi"}], "images": ["a.png"]}, "chat.images"),
        ({"conversations": [{"from": "human", "value": "Hi"}], "tools": '[{"name": "f"}]'}, "chat.tools"),
        ({"conversations": ["Hi"]}, "conversations.0 is not an object"),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "system", "value": "s"}]}, "conversations.1"),
        ({"conversations": []}, "no messages"),
    ],
)
def test_sharegpt_content_other_than_text_is_refused_by_name(fields: dict[str, Any], detail: str) -> None:
    assert detail in find_refusal([fields])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda messages: messages,
        lambda messages: {"messages": messages},
        lambda messages: [messages],
        lambda messages: [{"messages": messages}],
    ],
)
def test_sharegpt_messages_need_no_surrounding_object(wrap: Callable[[Any], Any]) -> None:
    messages = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]

    assert exchanges(read_chat(wrap(messages))[1]) == [("Hi", "Hello")]
