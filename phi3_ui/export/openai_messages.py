"""Convert a conversation to OpenAI-style messages, and back."""

from dataclasses import replace
from typing import Any, get_args

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.types import FinishReason, Usage
from phi3_ui.contracts.parsing import parse_finish_reason, parse_usage
from phi3_ui.export.importers.fields import read_parts, read_text, read_time, reject_content, wrap_reasoning
from phi3_ui.export.importers.message_tree import ImportedMessage, build_conversation
from phi3_ui.export.refusal import ImportRefusedError

_SYSTEM_ROLES = ("system", "developer")
_TEXT_PARTS = ("text", "input_text", "output_text")
_NON_TEXT_FIELDS = ("tool_calls", "function_call", "audio", "refusal", "images", "files")
_TIME_FIELDS = ("created_at", "timestamp", "created")


def to_openai_messages(conversation: Conversation) -> list[dict[str, Any]]:
    """Return the shown branch. Answers without text are omitted; the system prompt is the one sent last."""
    turns = conversation.turns
    system = next((turn.request.system for turn in reversed(turns) if turn.request), "")
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system.strip() else []
    for turn in turns:
        messages.append({"role": "user", "content": turn.question})
        if turn.answer and turn.answer.text:
            messages.append(_build_assistant_message(turn.answer))
    return messages


def _build_assistant_message(answer: Answer) -> dict[str, Any]:
    """Build the message of an answer. `finish_reason` may also be one that OpenAI does not have: cancelled, timeout."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "model": answer.model}
    if answer.usage:
        message["usage"] = _serialize_usage(answer.usage)
    return {**message, "finish_reason": answer.finish_reason}


def _serialize_usage(usage: Usage) -> dict[str, Any]:
    counts: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_tokens is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    return counts


def from_openai_messages(messages: Any, model: str = "") -> Conversation:
    """Return a linear conversation.

    An unanswered question stays unanswered; an answer without a question gets an empty one. The model of an answer is the
    message's `model`, else `model`; its finish reason is "stop" unless the message has one. The time of a message is its
    `created_at`, `timestamp` or `created`, if it has one. Other fields are ignored. A system prompt applies to the following
    turns, until the next one; consecutive ones are joined.

    Raises ImportRefusedError if a system prompt would be lost (it comes last, or between a question and its answer), or if a
    message contains anything but text (an image, a tool call).
    """
    if not isinstance(messages, list) or not messages:
        raise ImportRefusedError("no_messages")
    return build_conversation([_read_message(number, message, model) for number, message in enumerate(messages)])


def _read_message(number: int, message: Any, model: str) -> ImportedMessage:
    place = f"messages.{number}"
    role = message.get("role") if isinstance(message, dict) else None
    if role not in (*_SYSTEM_ROLES, "user", "assistant"):
        raise ImportRefusedError("unknown_role", place=f"{place}.role", role=role)
    reasoning = wrap_reasoning(read_text(message, "reasoning_content", place))
    reject_content(message, _NON_TEXT_FIELDS, place)
    text = "".join(read_parts(message.get("content"), _TEXT_PARTS, f"{place}.content"))
    return ImportedMessage(
        id=str(number),
        parent=str(number - 1) if number else None,
        role="system" if role in _SYSTEM_ROLES else role,
        text=f"{reasoning}\n\n{text}" if reasoning else text,
        place=place,
        asked_at=next((time for name in _TIME_FIELDS if (time := read_time(message, name, place)) is not None), None),
        answer=_read_answer(message, model) if role == "assistant" else None,
    )


def _read_answer(message: dict[str, Any], model: str) -> Answer:
    usage, raw_reason = parse_usage(message.get("usage")), message.get("finish_reason")
    if usage:
        details = message["usage"].get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        usage = replace(usage, cached_tokens=cached if type(cached) is int and cached >= 0 else None)
    own_model = message.get("model")
    reason = raw_reason if raw_reason in get_args(FinishReason) else parse_finish_reason(raw_reason) or "stop"
    return Answer(own_model if isinstance(own_model, str) else model, "", usage, finish_reason=reason)
