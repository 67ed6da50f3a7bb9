"""Detect by its fields which program wrote a chat, and read it."""

from typing import Any

from phi3_ui.chat.conversation import Conversation
from phi3_ui.export.importers.chatgpt import read_chatgpt_chat
from phi3_ui.export.importers.lm_studio import read_lm_studio_chat
from phi3_ui.export.importers.open_webui import read_open_webui_chat
from phi3_ui.export.importers.sharegpt import LISTS as SHAREGPT_LISTS
from phi3_ui.export.importers.sharegpt import read_sharegpt_chat

_CHAT_FIELDS = {"phi3_ui", "messages", "mapping", "chat", "history", *SHAREGPT_LISTS}
_MESSAGE_FIELDS = {"role", "from", "content", "value"}


def is_chat(value: Any) -> bool:
    """Whether an element of a list is certainly a chat: a list of messages, or an object with a field that only chats have."""
    return isinstance(value, list) or (isinstance(value, dict) and bool(_CHAT_FIELDS & value.keys()))


def is_message(value: Any) -> bool:
    """Whether an element of a list looks like a message. Other objects are treated as chats of an unknown program."""
    return isinstance(value, dict) and bool(_MESSAGE_FIELDS & value.keys()) and not is_chat(value)


def read_third_party_chat(chat: dict[str, Any]) -> tuple[str, Conversation] | None:
    """Return title and conversation of a chat by ChatGPT, Open WebUI, LM Studio or ShareGPT; None for any other chat.

    Raises:
        ImportRefusedError: The chat contains something that cannot be imported; the message names the field.
    """
    if "mapping" in chat:
        return read_chatgpt_chat(chat)
    if any(isinstance(chat.get(name), list) for name in SHAREGPT_LISTS):
        return read_sharegpt_chat(chat)
    messages = chat.get("messages")
    fields = (
        {name for one in messages if isinstance(one, dict) for name in one} if isinstance(messages, list) else set()
    )
    if {"from", "value"} <= fields:
        return read_sharegpt_chat(chat)
    if "versions" in fields:
        return read_lm_studio_chat(chat)
    if "chat" in chat or "history" in chat or {"parentId", "childrenIds"} & fields:
        return read_open_webui_chat(chat)
    return None
