"""Chats as exported by other programs, and short forms of imported chats for assertions."""

import json
from typing import Any

import pytest

from phi3_ui.chat.conversation import Answer, Conversation, Turn
from phi3_ui.errors import UserError
from phi3_ui.export.chat_file import read_chats


def read_chat(value: Any) -> tuple[str, Conversation]:
    [chat] = read_chats(json.dumps(value).encode())
    return chat


def find_refusal(value: Any) -> str:
    with pytest.raises(UserError) as refused:
        read_chats(json.dumps(value).encode())
    assert refused.value.code == "invalid_chat_file"
    return str(refused.value.values["detail"])


def exchanges(conversation: Conversation) -> list[tuple[str, str | None]]:
    return [(turn.question, turn.answer.text if turn.answer else None) for turn in conversation.turns]


def get_asked_at(turn: Turn) -> float:
    assert turn.request
    return turn.request.asked_at


def get_answer(turn: Turn) -> Answer:
    assert turn.answer
    return turn.answer


def chatgpt_node(
    parent: str | None, role: str, content: Any, at: float | None = None, **message: Any
) -> dict[str, Any]:
    if isinstance(content, str):
        content = {"content_type": "text", "parts": [content]}
    fields = {"author": {"role": role}, "content": content, "create_time": at, **message}
    return {"parent": parent, "children": [], "message": fields}


def chatgpt_chat(**nodes: dict[str, Any]) -> dict[str, Any]:
    root = {"parent": None, "children": ["s"], "message": None}
    mapping = {"r": root, "s": chatgpt_node("r", "system", ""), **nodes}
    return {"title": "Sums", "create_time": 900.0, "mapping": mapping, "current_node": [*mapping][-1]}


GPT = {"model_slug": "gpt-4"}


def branched_chatgpt_chat() -> dict[str, Any]:
    """The first question was regenerated and later edited; the first answer was continued and is shown."""
    chat = chatgpt_chat(
        q1=chatgpt_node("s", "user", "2+2?", 1000),
        a1=chatgpt_node("q1", "assistant", "4", 1001, metadata=GPT),
        q2=chatgpt_node("a1", "user", "Sure?", 1010),
        a2=chatgpt_node("q2", "assistant", "Yes.", 1011, metadata=GPT),
        b1=chatgpt_node(
            "q1", "assistant", "four", 1005, metadata={"model_slug": "o1", "finish_details": {"type": "max_tokens"}}
        ),
        q1b=chatgpt_node("s", "user", "3+3?", 1007),
        c1=chatgpt_node("q1b", "assistant", "6", 1008, metadata=GPT),
    )
    return {**chat, "current_node": "a2"}


def open_webui_message(key: str, parent: str | None, role: str, content: str, at: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": key,
        "parentId": parent,
        "childrenIds": [],
        "role": role,
        "content": content,
        "timestamp": at,
        **fields,
    }


def open_webui_chat() -> dict[str, Any]:
    """A question answered by two models; the first answer was rated and is followed by an error."""
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    messages = [
        open_webui_message("q", None, "user", "2+2?", 1000, models=["phi3:latest", "llama3"]),
        open_webui_message(
            "a", "q", "assistant", "4", 1000, model="phi3:latest", usage=usage, annotation={"rating": 1, "comment": "x"}
        ),
        open_webui_message("b", "q", "assistant", "four", 1000, model="llama3", done=False),
        open_webui_message("q2", "a", "user", "Sure?", 1010),
        open_webui_message("a2", "q2", "assistant", "", 1010, model="phi3:latest", error={"content": "out of memory"}),
    ]
    history = {"messages": {message["id"]: message for message in messages}, "currentId": "a2"}
    shown = [message for message in messages if message["id"] != "b"]
    chat = {
        "title": "Sums",
        "models": ["phi3:latest"],
        "params": {"system": "Be brief."},
        "history": history,
        "messages": shown,
    }
    return {"id": "c", "title": "Sums", "chat": chat, "created_at": 999, "archived": False, "meta": {"tags": ["a"]}}


def lm_studio_text(text: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text, **fields}]


def lm_studio_chat() -> dict[str, Any]:
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
        "content": lm_studio_text("Easy."),
        "suffix": "</think>",
    }
    block = {
        "type": "contentBlock",
        "content": lm_studio_text("fo") + lm_studio_text("ur"),
        "genInfo": {"identifier": "phi-3", "stats": stats},
    }
    first = {"type": "singleStep", "role": "assistant", "content": lm_studio_text("4")}
    second = {"type": "multiStep", "role": "assistant", "steps": [thinking, {"type": "debugInfoBlock"}, block]}
    return {
        "name": "Sums",
        "createdAt": 1_700_000_000_000,
        "lastUsedModel": {"identifier": "llama-3"},
        "perChatPredictionConfig": {"fields": [{"key": "llm.prediction.systemPrompt", "value": "Be brief."}]},
        "messages": [
            {
                "versions": [{"type": "singleStep", "role": "user", "content": lm_studio_text("2+2?")}],
                "currentlySelected": 0,
            },
            {"versions": [first, second], "currentlySelected": 1},
            {
                "versions": [{"type": "singleStep", "role": "user", "content": lm_studio_text("Sure?")}],
                "currentlySelected": 0,
            },
        ],
    }


IMAGE = {"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer"}, "What is it?"]}
