"""Chats of other programs: what is imported is complete, and what cannot be is named."""

import io
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest

from phi3_ui.chat.conversation import Answer, Conversation, Feedback, Turn
from phi3_ui.chat.types import Timings, Usage
from phi3_ui.errors import UserError
from phi3_ui.export.archive import read_chats


def _read(value: Any) -> tuple[str, Conversation]:
    [chat] = read_chats(json.dumps(value).encode())
    return chat


def _refusal(value: Any) -> str:
    with pytest.raises(UserError) as refused:
        read_chats(json.dumps(value).encode())
    assert refused.value.code == "invalid_chat_file"
    return str(refused.value.values["detail"])


def _exchanges(conversation: Conversation) -> list[tuple[str, str | None]]:
    return [(turn.question, turn.answer.text if turn.answer else None) for turn in conversation.turns]


def _asked_at(turn: Turn) -> float:
    assert turn.request
    return turn.request.asked_at


def _answer(turn: Turn) -> Answer:
    assert turn.answer
    return turn.answer


# ChatGPT


def _node(parent: str | None, role: str, content: Any, at: float | None = None, **message: Any) -> dict[str, Any]:
    if isinstance(content, str):
        content = {"content_type": "text", "parts": [content]}
    fields = {"author": {"role": role}, "content": content, "create_time": at, **message}
    return {"parent": parent, "children": [], "message": fields}


def _chatgpt(**nodes: dict[str, Any]) -> dict[str, Any]:
    root = {"parent": None, "children": ["s"], "message": None}
    mapping = {"r": root, "s": _node("r", "system", ""), **nodes}
    return {"title": "Sums", "create_time": 900.0, "mapping": mapping, "current_node": [*mapping][-1]}


_GPT = {"model_slug": "gpt-4"}


def _branched() -> dict[str, Any]:
    """The first question is regenerated and later edited; the first answer is continued and shown."""
    chat = _chatgpt(
        q1=_node("s", "user", "2+2?", 1000),
        a1=_node("q1", "assistant", "4", 1001, metadata=_GPT),
        q2=_node("a1", "user", "Sure?", 1010),
        a2=_node("q2", "assistant", "Yes.", 1011, metadata=_GPT),
        b1=_node(
            "q1", "assistant", "four", 1005, metadata={"model_slug": "o1", "finish_details": {"type": "max_tokens"}}
        ),
        q1b=_node("s", "user", "3+3?", 1007),
        c1=_node("q1b", "assistant", "6", 1008, metadata=_GPT),
    )
    return {**chat, "current_node": "a2"}


def test_a_chatgpt_tree_keeps_its_branches_times_and_models() -> None:
    title, conversation = _read([_branched()])

    first, second = conversation.turns
    assert (title, _exchanges(conversation)) == ("Sums", [("2+2?", "4"), ("Sure?", "Yes.")])
    variants = [conversation.get_turn(one) for one in conversation.variant_ids(first.id)]
    assert [(one.question, _answer(one).text, _answer(one).model, _asked_at(one)) for one in variants] == [
        ("2+2?", "4", "gpt-4", 1000),
        ("2+2?", "four", "o1", 1005),
        ("3+3?", "6", "gpt-4", 1007),
    ]
    assert [_answer(one).finish_reason for one in variants] == ["stop", "length", "stop"]
    assert _asked_at(second) == 1010
    assert [_asked_at(turn) for turn in conversation.tree] == sorted(_asked_at(turn) for turn in conversation.tree)


def test_a_chatgpt_export_may_say_only_the_children_of_a_node() -> None:
    chat = _branched()
    for key, node in chat["mapping"].items():
        node["children"] = [child for child, other in chat["mapping"].items() if other["parent"] == key]
    for node in chat["mapping"].values():
        del node["parent"]

    assert _exchanges(_read(chat)[1]) == [("2+2?", "4"), ("Sure?", "Yes.")]
    assert len(_read(chat)[1].tree) == 4


def test_chatgpt_tools_reasoning_and_instructions_are_kept() -> None:
    instructions = {
        "content_type": "user_editable_context",
        "user_profile": "I am six.",
        "user_instructions": "Be brief.",
    }
    thoughts = {"content_type": "thoughts", "thoughts": [{"summary": "Add", "content": "1 and 1"}]}
    code = {"content_type": "code", "language": "python", "text": "print('```')"}
    chat = _chatgpt(
        i=_node("s", "user", instructions),
        q=_node("i", "user", "1+1?", 1000),
        m=_node("q", "assistant", {"content_type": "model_editable_context", "model_set_context": "Likes sums."}),
        t=_node("m", "assistant", thoughts, 1001, metadata=_GPT),
        c=_node("t", "assistant", code, 1002, recipient="python", metadata=_GPT),
        o=_node("c", "tool", {"content_type": "execution_output", "text": "2"}, 1003),
        a=_node("o", "assistant", "It is 2.", 1004, metadata=_GPT),
    )

    [turn] = _read(chat)[1].turns

    assert turn.request
    assert turn.request.system == "I am six.\n\nBe brief.\n\nLikes sums."
    assert _answer(turn).text == (
        "<think>\nAdd\n\n1 and 1\n</think>\n\n````python\nprint('```')\n````\n\n```\n2\n```\n\nIt is 2."
    )


def test_chatgpt_custom_instructions_in_metadata_are_kept() -> None:
    chat = _chatgpt(q=_node("s", "user", "Hi"))
    data = {"about_user_message": "I am six.", "about_model_message": "Be brief."}
    chat["mapping"]["s"]["message"]["metadata"] = {"is_user_system_message": True, "user_context_message_data": data}

    [turn] = _read(chat)[1].turns

    assert turn.request
    assert turn.request.system == "I am six.\n\nBe brief."


_IMAGE = {"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer"}, "What is it?"]}


@pytest.mark.parametrize(
    ("node", "field"),
    [
        (_node("s", "user", _IMAGE), "mapping.q.message.content.parts.0 is not text but image_asset_pointer"),
        (
            _node("s", "user", "Hi", metadata={"attachments": [{"name": "a.pdf"}]}),
            "mapping.q.message.metadata.attachments",
        ),
        (_node("s", "tool", {"content_type": "tether_quote"}), "mapping.q.message.content.content_type"),
        (_node("s", "critic", "No."), "mapping.q.message.author.role"),
        (_node("s", "user", {"content_type": "text", "parts": "Hi"}), "mapping.q.message.content.parts"),
        (_node("s", "user", "Hi", at=-5), "mapping.q.message.create_time"),
        (_node("x", "user", "Hi"), "mapping.q.message: its parent x is missing"),
        (_node("q", "user", "Hi"), "mapping.q.message: it is its own ancestor"),
        (
            _node(
                "s",
                "tool",
                {"content_type": "execution_output", "text": ""},
                metadata={"aggregate_result": {"messages": [{"message_type": "image"}]}},
            ),
            "mapping.q.message.content",
        ),
    ],
)
def test_what_chatgpt_has_beyond_text_is_named(node: dict[str, Any], field: str) -> None:
    assert field in _refusal(_chatgpt(q=node))


def test_a_chatgpt_answer_may_have_thousands_of_messages() -> None:
    """Of which no copy is made with each."""
    nodes = {f"a{n}": _node(f"a{n - 1}" if n else "q", "assistant", str(n)) for n in range(5_000)}

    [turn] = _read(_chatgpt(q=_node("s", "user", "Count."), **nodes))[1].turns

    assert _answer(turn).text == "\n\n".join(map(str, range(5_000)))


def test_system_prompts_that_grow_with_every_message_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phi3_ui.export.importers.message_tree._MAX_CHARACTERS", 1_000)
    nodes = {f"a{n}": _node(f"a{n - 1}" if n else "s", "system", "x" * 10) for n in range(50)}
    said = [{"from": "system", "value": "x"}] * 50

    for chat in (_chatgpt(**nodes), {"conversations": said}):
        assert "its system prompts are too long for so many messages" in _refusal(chat)


def test_a_chatgpt_chat_without_messages_or_with_a_wrong_current_node_is_refused() -> None:
    assert "no messages" in _refusal(_chatgpt())
    assert "current_node" in _refusal({**_branched(), "current_node": "x"})


# Open WebUI


def _message(key: str, parent: str | None, role: str, content: str, at: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": key,
        "parentId": parent,
        "childrenIds": [],
        "role": role,
        "content": content,
        "timestamp": at,
        **fields,
    }


def _open_webui() -> dict[str, Any]:
    """A question that two models answered; the answer of the first was rated and is followed by an error."""
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    messages = [
        _message("q", None, "user", "2+2?", 1000, models=["phi3:latest", "llama3"]),
        _message(
            "a", "q", "assistant", "4", 1000, model="phi3:latest", usage=usage, annotation={"rating": 1, "comment": "x"}
        ),
        _message("b", "q", "assistant", "four", 1000, model="llama3", done=False),
        _message("q2", "a", "user", "Sure?", 1010),
        _message("a2", "q2", "assistant", "", 1010, model="phi3:latest", error={"content": "out of memory"}),
    ]
    history = {"messages": {one["id"]: one for one in messages}, "currentId": "a2"}
    shown = [one for one in messages if one["id"] != "b"]
    chat = {
        "title": "Sums",
        "models": ["phi3:latest"],
        "params": {"system": "Be brief."},
        "history": history,
        "messages": shown,
    }
    return {"id": "c", "title": "Sums", "chat": chat, "created_at": 999, "archived": False, "meta": {"tags": ["a"]}}


@pytest.mark.parametrize("wrap", [lambda chat: [chat], lambda chat: chat, lambda chat: chat["chat"]])
def test_an_open_webui_chat_keeps_its_branches_times_and_models(wrap: Callable[[Any], Any]) -> None:
    title, conversation = _read(wrap(_open_webui()))

    first, second = conversation.turns
    assert (title, _exchanges(conversation)) == ("Sums", [("2+2?", "4"), ("Sure?", "")])
    assert (_answer(first).model, _answer(first).usage, first.feedback) == (
        "phi3:latest",
        Usage(5, 2),
        Feedback(True, "x"),
    )
    assert (_asked_at(first), _asked_at(second)) == (1000, 1010)
    assert first.request
    assert first.request.system == "Be brief."
    other = _answer(conversation.get_turn(conversation.variant_ids(first.id)[1]))
    assert (other.text, other.model, other.finish_reason) == ("four", "llama3", "cancelled")
    assert _answer(second).error == ("refused", {"model": "phi3:latest", "detail": "out of memory"})


def test_an_open_webui_chat_may_hold_only_the_list_of_messages() -> None:
    chat = _open_webui()["chat"]
    chat["history"] = {"messages": {}, "currentId": "a2"}

    title, conversation = _read(chat)

    assert (title, _exchanges(conversation)) == ("Sums", [("2+2?", "4"), ("Sure?", "")])


@pytest.mark.parametrize(
    ("key", "fields", "named"),
    [
        ("q", {"files": [{"type": "image"}]}, "history.messages.q.files"),
        ("a", {"sources": [{"source": {}}]}, "history.messages.a.sources"),
        ("a", {"role": "tool"}, "history.messages.a.role"),
        ("a", {"content": None}, "history.messages.a.content"),
        ("q", {"content": [{"type": "image_url"}]}, "history.messages.q.content.0 is not text but image_url"),
        ("q", {"timestamp": "yesterday"}, "history.messages.q.timestamp"),
        ("q2", {"parentId": "x"}, "history.messages.q2: its parent x is missing"),
    ],
)
def test_what_open_webui_has_beyond_text_is_named(key: str, fields: dict[str, Any], named: str) -> None:
    chat = _open_webui()
    chat["chat"]["history"]["messages"][key] |= fields

    assert named in _refusal([chat])


# LM Studio


def _text(text: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text, **fields}]


def _lm_studio() -> dict[str, Any]:
    """A question whose answer was regenerated; the second version is shown and followed by another question."""
    stats = {
        "stopReason": "maxPredictedTokensReached",
        "tokensPerSecond": 40.5,
        "timeToFirstTokenSec": 0.2,
        "totalTimeSec": 1.5,
        "promptTokensCount": 9,
        "predictedTokensCount": 3,
    }
    thinking = {
        "type": "contentBlock",
        "stepIdentifier": "1700000005000-0.5",
        "style": {"type": "thinking"},
        "prefix": "<think>",
        "content": _text("Easy."),
        "suffix": "</think>",
    }
    block = {
        "type": "contentBlock",
        "content": _text("fo") + _text("ur"),
        "genInfo": {"identifier": "phi-3", "stats": stats},
    }
    first = {"type": "singleStep", "role": "assistant", "content": _text("4")}
    second = {"type": "multiStep", "role": "assistant", "steps": [thinking, {"type": "debugInfoBlock"}, block]}
    return {
        "name": "Sums",
        "createdAt": 1_700_000_000_000,
        "lastUsedModel": {"identifier": "llama-3"},
        "perChatPredictionConfig": {"fields": [{"key": "llm.prediction.systemPrompt", "value": "Be brief."}]},
        "messages": [
            {"versions": [{"type": "singleStep", "role": "user", "content": _text("2+2?")}], "currentlySelected": 0},
            {"versions": [first, second], "currentlySelected": 1},
            {"versions": [{"type": "singleStep", "role": "user", "content": _text("Sure?")}], "currentlySelected": 0},
        ],
    }


def test_an_lm_studio_chat_keeps_its_versions_times_and_models() -> None:
    title, conversation = _read(_lm_studio())

    first, second = conversation.turns
    assert title == "Sums"
    assert _exchanges(conversation) == [("2+2?", "<think>Easy.</think>\n\nfour"), ("Sure?", None)]
    expected = Answer("phi-3", _answer(first).text, Usage(9, 3), Timings(0.2, 1.5, 40.5), "length")
    assert first.answer == expected
    assert first.request
    assert (first.request.system, first.request.asked_at) == ("Be brief.", 1_700_000_005)
    other = conversation.get_turn(conversation.variant_ids(first.id)[0])
    assert (_answer(other).text, _answer(other).model, _asked_at(other)) == ("4", "llama-3", 1_700_000_000)
    assert second.parent == first.id


@pytest.mark.parametrize(
    ("version", "named"),
    [
        ({"role": "user", "content": [{"type": "file"}]}, "messages.0.versions.0.content.0 is not text but file"),
        ({"role": "tool", "content": []}, "messages.0.versions.0.role"),
        (
            {"role": "assistant", "steps": [{"type": "contentBlock", "content": [{"type": "toolCallRequest"}]}]},
            "messages.0.versions.0.steps.0.content.0 is not text but toolCallRequest",
        ),
        ({"role": "assistant", "steps": [{"type": "citationBlock"}]}, "messages.0.versions.0.steps.0.type"),
    ],
)
def test_what_lm_studio_has_beyond_text_is_named(version: dict[str, Any], named: str) -> None:
    assert named in _refusal({"name": "c", "messages": [{"versions": [version], "currentlySelected": 0}]})
    assert "messages.0.currentlySelected" in _refusal({"messages": [{"versions": [version], "currentlySelected": 1}]})


# ShareGPT


def test_a_sharegpt_list_is_imported() -> None:
    said = [("system", "Be brief."), ("human", "2+2?"), ("gpt", "4"), ("human", "Sure?"), ("gpt", "Yes.")]
    chats = [
        {"id": "a", "conversations": [{"from": sender, "value": value} for sender, value in said], "model": "gpt-4"},
        {
            "title": "T",
            "items": [{"from": "human", "value": "Hi"}],
            "created_at": "2023-04-01T10:00:00Z",
            "tools": "[]",
        },
        {"system": "s", "conversations": [{"from": "gpt", "value": "Hello"}]},
    ]

    (title, first), (other_title, second), (_, third) = read_chats(json.dumps(chats).encode())

    assert (title, _exchanges(first)) == ("2+2?", [("2+2?", "4"), ("Sure?", "Yes.")])
    assert [(turn.request and turn.request.system, _answer(turn).model) for turn in first.turns] == [
        ("Be brief.", "gpt-4")
    ] * 2
    assert (other_title, _exchanges(second), _asked_at(second.turns[0])) == ("T", [("Hi", None)], 1_680_343_200)
    assert _exchanges(third) == [("", "Hello")]


@pytest.mark.parametrize(
    ("fields", "named"),
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
def test_what_sharegpt_has_beyond_text_is_named(fields: dict[str, Any], named: str) -> None:
    assert named in _refusal([fields])


@pytest.mark.parametrize(
    "wrap", [lambda said: said, lambda said: {"messages": said}, lambda said: [said], lambda said: [{"messages": said}]]
)
def test_sharegpt_messages_need_no_record_around_them(wrap: Callable[[Any], Any]) -> None:
    said = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]

    assert _exchanges(_read(wrap(said))[1]) == [("Hi", "Hello")]


# All of them

_CHATS: list[Any] = [
    _branched(),
    _open_webui(),
    _lm_studio(),
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    {"messages": [{"role": "user", "content": "Hi", "created_at": 5}], "title": "T"},
]


def test_a_list_may_mix_chats_and_names_the_one_that_cannot_be_read() -> None:
    bad = _chatgpt(q=_node("s", "user", _IMAGE))
    refused = list[str]()

    read = read_chats(json.dumps([*_CHATS, bad]).encode(), refused.append)

    assert [title for title, _ in read] == ["Sums", "Sums", "Sums", "Hi", "T"]
    assert refused == ["chat 6 “Sums”: mapping.q.message.content.parts.0 is not text but image_asset_pointer"]
    assert "chat 6" in _refusal([*_CHATS, bad])
    with pytest.raises(UserError, match="chat 1 “Sums”"):
        read_chats(json.dumps([bad]).encode(), refused.append)


def test_openai_messages_keep_their_time_and_reasoning_and_name_what_is_not_text() -> None:
    messages = [
        {"role": "user", "content": "Hi", "timestamp": 1_700_000_000_000},
        {"role": "assistant", "content": "Hello", "reasoning_content": "A greeting."},
    ]
    title, conversation = _read({"name": "T", "messages": messages})

    assert (title, _asked_at(conversation.turns[0])) == ("T", 1_700_000_000)
    assert _exchanges(conversation) == [("Hi", "<think>\nA greeting.\n</think>\n\nHello")]
    image = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]}
    assert "messages.1.content.1 is not text but image_url" in _refusal([*messages[:1], image])
    assert "messages.0.images" in _refusal([{"role": "user", "content": "a", "images": ["aGk="]}])
    assert "messages.0.role" in _refusal([{"role": "tool", "content": "a"}])
    assert "the fields uuid, chat_messages" in _refusal({"uuid": "a", "chat_messages": []})


_LINES = b"\n".join(json.dumps(chat).encode() for chat in [_CHATS[3], _CHATS[4]])


def test_json_lines_hold_a_chat_on_each_line() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.jsonl", _LINES)
    messages = b'{"role": "user", "content": "a\xe2\x80\xa8b"}\r\n\r\n{"role": "assistant", "content": "c"}\r\n'

    for content in (_LINES, packed.getvalue()):
        assert [title for title, _ in read_chats(content)] == ["Hi", "T"]
    [(_, conversation)] = read_chats(messages)
    assert _exchanges(conversation) == [("a\u2028b", "c")]
    with pytest.raises(UserError, match="line 3 is not JSON"):
        read_chats(_LINES + b"\n{")
    with pytest.raises(UserError, match="it is not JSON"):
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
def test_times_are_read_in_any_unit_or_refused(time: Any, seconds: float | None) -> None:
    chat = {"conversations": [{"from": "human", "value": "Hi", "timestamp": time}], "id": 10**30}

    if seconds is None:
        assert "conversations.0.timestamp is not a time" in _refusal(chat)
    else:
        assert _asked_at(_read(chat)[1].turns[0]) == seconds


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
    chat = _open_webui()
    chat["chat"]["history"]["messages"]["a2"] |= {"error": error, "content": "No model."}

    found = _answer(_read(chat)[1].turns[1]).error

    assert found == ("refused", {"model": "phi3:latest", "detail": detail})


def test_of_a_chatgpt_archive_only_the_conversations_are_read() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("chat.html", "<html>")
        archive.writestr("user.json", '{"id": "user-1"}')
        archive.writestr("message_feedback.json", "[]")
        archive.writestr("conversations.json", json.dumps([_branched(), _branched()]))

    assert [title for title, _ in read_chats(packed.getvalue())] == ["Sums", "Sums"]


_DAMAGES: list[Any] = [None, -5, 1e300, 10**30, True, "x", "inf", [[]], {"type": []}]


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(longer for key, inner in items for longer in _paths(inner, (*path, key)))]


@pytest.mark.parametrize("chat", _CHATS)
def test_a_chat_with_any_damaged_field_is_read_or_refused(chat: Any) -> None:
    for *path, last in _paths(chat)[1:]:
        for damage in _DAMAGES:
            damaged = at = deepcopy(chat)
            for key in path:
                at = at[key]
            at[last] = damage
            with suppress(UserError):
                for _, conversation in read_chats(json.dumps(damaged).encode()):
                    assert conversation.turns
                    places = {turn.id: place for place, turn in enumerate(conversation.tree)}
                    assert all(places[turn.parent] < places[turn.id] for turn in conversation.tree if turn.parent)
