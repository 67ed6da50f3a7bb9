"""Tests for the chats of all programs: lists, JSON Lines, times, archives, and damaged fields."""

import io
import json
import zipfile
from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest

from phi3_ui.errors import UserError
from phi3_ui.export.chat_file import read_chats
from tests.export.importers.samples import (
    IMAGE,
    branched_chatgpt_chat,
    chatgpt_chat,
    chatgpt_node,
    exchanges,
    find_refusal,
    get_answer,
    get_asked_at,
    lm_studio_chat,
    open_webui_chat,
    read_chat,
)

_CHATS: list[Any] = [
    branched_chatgpt_chat(),
    open_webui_chat(),
    lm_studio_chat(),
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    {"messages": [{"role": "user", "content": "Hi", "created_at": 5}], "title": "T"},
]


def test_the_unreadable_chat_of_a_mixed_list_is_named() -> None:
    unreadable = chatgpt_chat(q=chatgpt_node("s", "user", IMAGE))
    refused = list[str]()

    read = read_chats(json.dumps([*_CHATS, unreadable]).encode(), refused.append)

    assert [title for title, _ in read] == ["Sums", "Sums", "Sums", "Hi", "T"]
    assert refused == ["chat 6 “Sums”: mapping.q.message.content.parts.0 is not text but image_asset_pointer"]
    assert "chat 6" in find_refusal([*_CHATS, unreadable])
    with pytest.raises(UserError, match="chat 1 “Sums”"):
        read_chats(json.dumps([unreadable]).encode(), refused.append)


def test_openai_messages_keep_time_and_reasoning_and_refuse_other_content_by_name() -> None:
    messages = [
        {"role": "user", "content": "Hi", "timestamp": 1_700_000_000_000},
        {"role": "assistant", "content": "Hello", "reasoning_content": "A greeting."},
    ]
    title, conversation = read_chat({"name": "T", "messages": messages})

    assert (title, get_asked_at(conversation.turns[0])) == ("T", 1_700_000_000)
    assert exchanges(conversation) == [("Hi", "<think>\nA greeting.\n</think>\n\nHello")]
    image = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]}
    assert "messages.1.content.1 is not text but image_url" in find_refusal([*messages[:1], image])
    assert "messages.0.images" in find_refusal([{"role": "user", "content": "a", "images": ["aGk="]}])
    assert "messages.0.role" in find_refusal([{"role": "tool", "content": "a"}])
    # Chats of an unknown program, alone and in lists of any length.
    claude = {"uuid": "1", "name": "Sums", "chat_messages": [{"sender": "human", "text": "1+1?"}]}
    for value in (claude, [claude], [claude, claude]):
        assert "no list of messages, but the fields uuid, name, chat_messages" in find_refusal(value)
    assert "the fields uuid, chat_messages" in find_refusal({"uuid": "a", "chat_messages": []})


_LINES = b"\n".join(json.dumps(chat).encode() for chat in [_CHATS[3], _CHATS[4]])


def test_each_line_of_json_lines_is_a_chat() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.jsonl", _LINES)
    messages = b'{"role": "user", "content": "a\xe2\x80\xa8b"}\r\n\r\n{"role": "assistant", "content": "c"}\r\n'

    for content in (_LINES, packed.getvalue()):
        assert [title for title, _ in read_chats(content)] == ["Hi", "T"]
    [(_, conversation)] = read_chats(messages)
    assert exchanges(conversation) == [("a\u2028b", "c")]
    with pytest.raises(UserError, match="chat 3: it is not valid JSON"):
        read_chats(_LINES + b"\n{")
    with pytest.raises(UserError, match="it is not valid JSON"):
        read_chats(b'{"messages": [\n')


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        (1_700_000_000, 1.7e9),
        ("1700000000000", 1.7e9),
        (1_700_000_000_000_000, 1.7e9),
        (1_700_000_000_000_000_000, 1.7e9),
        ("2023-04-01T10:00:00+00:00", 1_680_343_200),
        *((bad, None) for bad in ("nan", "inf", "1e999", "-inf", 1e300, -1, True, "9999-12-31", [0])),
    ],
)
def test_times_are_parsed_in_any_unit_or_refused(time: Any, seconds: float | None) -> None:
    chat = {"conversations": [{"from": "human", "value": "Hi", "timestamp": time}], "id": 10**30}

    if seconds is None:
        assert "conversations.0.timestamp is not a time" in find_refusal(chat)
    else:
        assert get_asked_at(read_chat(chat)[1].turns[0]) == seconds


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        ({"content": "out of memory"}, "out of memory"),
        ({"detail": "out of memory"}, "out of memory"),
        ("out of memory", "out of memory"),
        (True, "No model."),
        ({"code": 5}, "No model."),
    ],
)
def test_the_error_of_an_open_webui_answer_is_kept(error: Any, detail: str) -> None:
    chat = open_webui_chat()
    chat["chat"]["history"]["messages"]["a2"] |= {"error": error, "content": "No model."}

    found = get_answer(read_chat(chat)[1].turns[1]).error

    assert found == ("refused", {"model": "phi3:latest", "detail": detail})


def test_only_the_conversations_of_a_chatgpt_archive_are_read() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("chat.html", "<html>")
        archive.writestr("user.json", '{"id": "user-1"}')
        archive.writestr("message_feedback.json", "[]")
        archive.writestr("conversations.json", json.dumps([branched_chatgpt_chat(), branched_chatgpt_chat()]))

    assert [title for title, _ in read_chats(packed.getvalue())] == ["Sums", "Sums"]


_DAMAGED_VALUES: list[Any] = [None, -5, 1e300, 10**30, True, "x", "inf", [[]], {"type": []}]


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(longer for key, inner in items for longer in _paths(inner, (*path, key)))]


@pytest.mark.parametrize("chat", _CHATS)
def test_a_chat_with_any_damaged_field_is_read_or_refused(chat: Any) -> None:
    for *path, last in _paths(chat)[1:]:
        for value in _DAMAGED_VALUES:
            damaged = parent = deepcopy(chat)
            for key in path:
                parent = parent[key]
            parent[last] = value
            with suppress(UserError):
                for _, conversation in read_chats(json.dumps(damaged).encode()):
                    assert conversation.turns
                    positions = {turn.id: position for position, turn in enumerate(conversation.tree)}
                    assert all(positions[turn.parent] < positions[turn.id] for turn in conversation.tree if turn.parent)
