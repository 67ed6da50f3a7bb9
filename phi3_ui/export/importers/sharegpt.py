"""Read chats of ShareGPT and of training data in its format: messages with `from` and `value`, mostly in `conversations`."""

from typing import Any

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.export.importers.fields import read_list, read_parts, read_record, read_text, read_time, reject_content
from phi3_ui.export.importers.message_tree import ImportedMessage, Role, build_conversation
from phi3_ui.export.refusal import ImportRefusedError

LISTS = ("conversations", "conversation", "items")
"""Possible names of the field with the list of messages."""

_ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bing": "assistant",
    "bard": "assistant",
}
_NON_TEXT_FIELDS = ("tools", "images", "videos", "audios", "image", "video", "audio")


def read_sharegpt_chat(chat: dict[str, Any]) -> tuple[str, Conversation]:
    """Return title and conversation of one record. Raises ImportRefusedError, naming the field."""
    name = next(name for name in (*LISTS, "messages") if name in chat)
    reject_content(chat, _NON_TEXT_FIELDS, "chat")
    model = read_text(chat, "model", "chat")
    messages = [_read_message(n, value, model, f"{name}.{n}") for n, value in enumerate(read_list(chat, name, "chat"))]
    times = (read_time(chat, field, "chat") for field in ("created_at", "create_time", "createdAt", "timestamp"))
    asked_at = next((time for time in times if time is not None), None)
    conversation = build_conversation(messages, asked_at=asked_at, system=read_text(chat, "system", "chat"))
    return read_text(chat, "title", "chat"), conversation


def _read_message(number: int, value: Any, model: str, place: str) -> ImportedMessage:
    message = read_record(value, place)
    sender = "from" if "from" in message else "role"
    if not isinstance(message.get(sender), str) or (role := _ROLES.get(message[sender].lower())) is None:
        raise ImportRefusedError("unknown_role", place=f"{place}.{sender}", role=message.get(sender))
    reject_content(message, (*_NON_TEXT_FIELDS, "tool_calls"), place)
    content = "value" if "value" in message else "content"
    return ImportedMessage(
        id=str(number),
        parent=str(number - 1) if number else None,
        role=role,
        text="".join(read_parts(message.get(content), ("text",), f"{place}.{content}")),
        place=place,
        asked_at=read_time(message, "timestamp", place),
        answer=Answer(read_text(message, "model", place) or model, "", finish_reason="stop"),
    )
