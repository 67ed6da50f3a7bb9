"""Read chats of Open WebUI, from one chat or an export of all: a tree of messages in `history`, or a list in `messages`."""

from dataclasses import replace
from typing import Any

from phi3_ui.chat.conversation import Answer, Conversation, Feedback
from phi3_ui.chat.types import Usage
from phi3_ui.contracts.parsing import parse_usage
from phi3_ui.export.importers.fields import (
    read_list,
    read_parts,
    read_record,
    read_text,
    read_time,
    reject_content,
    wrap_reasoning,
)
from phi3_ui.export.importers.message_tree import ImportedMessage, Role, build_conversation
from phi3_ui.export.refusal import ImportRefusedError

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
_NON_TEXT_FIELDS = ("files", "images", "sources", "citations", "code_executions", "embeds", "tool_calls", "merged")


def read_open_webui_chat(chat: dict[str, Any]) -> tuple[str, Conversation]:
    """Return title and conversation of an exported chat, with or without the enclosing record. Raises ImportRefusedError, naming the field."""
    inner = read_record(chat["chat"], "chat") if "chat" in chat else chat
    reject_content(inner, ("files",), "chat")
    history = read_record(inner.get("history") or {}, "history")
    messages, leaf = _read_messages(inner, history), read_text(history, "currentId", "history") or None
    if leaf and leaf not in {message.id for message in messages}:
        raise ImportRefusedError("no_message", place="history.currentId", id=leaf)
    times = (read_time(one, name, "chat") for one in (chat, inner) for name in ("created_at", "timestamp"))
    asked_at = next((time for time in times if time is not None), None)
    params = read_record(inner.get("params") or {}, "params")
    system = read_text(params, "system", "params") or read_text(inner, "system", "chat")
    title = read_text(chat, "title", "chat") or read_text(inner, "title", "chat")
    return title, build_conversation(messages, leaf, asked_at, system)


def _read_messages(chat: dict[str, Any], history: dict[str, Any]) -> list[ImportedMessage]:
    """Read the messages: all branches from `history` or, in older exports without it, the shown branch from `messages`."""
    models = [model for model in read_list(chat, "models", "chat") if isinstance(model, str)]
    model = models[0] if len(models) == 1 else ""
    if known := read_record(history.get("messages") or {}, "history.messages"):
        places = {f"history.messages.{key}": message for key, message in known.items()}
        return [
            _read_message(place, key, message, model)
            for key, (place, message) in zip(known, places.items(), strict=True)
        ]
    found, previous = list[ImportedMessage](), None
    for number, value in enumerate(read_list(chat, "messages", "chat")):
        place = f"messages.{number}"
        message = read_record(value, place)
        key = read_text(message, "id", place) or place
        found.append(_read_message(place, key, {"parentId": previous, **message}, model))
        previous = key
    return found


def _read_message(place: str, key: str, value: Any, model: str) -> ImportedMessage:
    message = read_record(value, place)
    if (role := _ROLES.get(read_text(message, "role", place))) is None:
        raise ImportRefusedError("unknown_role", place=f"{place}.role", role=message.get("role"))
    reject_content(message, _NON_TEXT_FIELDS, place)
    text = "".join(read_parts(message.get("content"), ("text",), f"{place}.content"))
    if reasoning := wrap_reasoning(read_text(message, "reasoning_content", place)):
        text = f"{reasoning}\n\n{text}"
    return ImportedMessage(
        id=key,
        parent=read_text(message, "parentId", place) or None,
        role=role,
        text=text,
        place=place,
        asked_at=read_time(message, "timestamp", place),
        answer=_read_answer(message, place, model, text) if role == "assistant" else None,
        feedback=_read_feedback(message, place),
    )


def _read_answer(message: dict[str, Any], place: str, model: str, text: str) -> Answer:
    usage = _read_usage(message.get("usage")) or _read_usage(message.get("info"))
    answer = Answer(read_text(message, "model", place) or model, "", usage)
    if error := message.get("error"):
        detail = _read_error(error) or text or "no reason given"
        return replace(answer, error=("refused", {"model": answer.model or "The model", "detail": detail}))
    return replace(answer, finish_reason="cancelled" if message.get("done") is False else "stop")


def _read_usage(record: Any) -> Usage | None:
    """Return the token counts of OpenAI's usage record, or of Ollama's."""
    if isinstance(record, dict) and "prompt_tokens" not in record:
        record = {
            "prompt_tokens": record.get("prompt_eval_count"),
            "completion_tokens": record.get("eval_count"),
            **record,
        }
    return parse_usage(record)


def _read_error(error: Any) -> str:
    """Return the error text; empty if the message's own text is the error, as in older exports with a mere error flag."""
    texts = (error.get("content"), error.get("detail"), error.get("message")) if isinstance(error, dict) else (error,)
    return next((text for text in texts if text and isinstance(text, str)), "")


def _read_feedback(message: dict[str, Any], place: str) -> Feedback | None:
    given = read_record(message.get("annotation") or {}, f"{place}.annotation")
    rating = given.get("rating")
    if rating not in (1, -1):
        return None
    texts = (read_text(given, name, f"{place}.annotation") for name in ("reason", "comment"))
    return Feedback(rating == 1, ": ".join(filter(None, texts)))
