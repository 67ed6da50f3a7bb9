"""Tells by its fields which program wrote a chat, and reads it."""

from typing import Any

from phi3_ui.chat.conversation import Conversation
from phi3_ui.export.importers.chatgpt import read_chatgpt_chat
from phi3_ui.export.importers.lm_studio import read_lm_studio_chat
from phi3_ui.export.importers.open_webui import read_open_webui_chat
from phi3_ui.export.importers.sharegpt import LISTS as SHAREGPT_LISTS
from phi3_ui.export.importers.sharegpt import read_sharegpt_chat

_CHAT_FIELDS = {"phi3_ui", "messages", "mapping", "chat", "history", *SHAREGPT_LISTS}
_MESSAGE_FIELDS = {"role", "from", "content", "value"}


def is_list_of_chats(value: Any) -> bool:
    """Whether these are chats, not the messages of one. A chat may be a list of messages."""
    if not isinstance(value, list):
        return False
    if any(isinstance(one, list) or (isinstance(one, dict) and _CHAT_FIELDS & one.keys()) for one in value):
        return True
    # Chats of a program that is not known, rather than messages.
    return bool(value) and all(isinstance(one, dict) and not _MESSAGE_FIELDS & one.keys() for one in value)


def read_foreign_chat(chat: dict[str, Any]) -> tuple[str, Conversation] | None:
    """Title and conversation of a chat that ChatGPT, Open WebUI, LM Studio or ShareGPT wrote; None if none of them did.

    Raises:
        ValueError: One of them did, but something in it cannot be imported; the message names the field.
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
