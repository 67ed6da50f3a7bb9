"""Converts a conversation to OpenAI-style messages, and back."""

import time
from dataclasses import replace
from typing import Any, get_args

from phi3_ui.chat.conversation import Answer, Conversation, Turn, TurnRequest
from phi3_ui.chat.types import FinishReason, Usage
from phi3_ui.contracts.parsing import parse_finish_reason, parse_usage

_SYSTEM_ROLES = ("system", "developer")
_TEXT_PARTS = ("text", "input_text", "output_text")
_NON_TEXT_FIELDS = ("tool_calls", "function_call", "audio", "refusal")
_MAX_SYSTEM_CHARACTERS = 50_000_000


def to_openai_messages(conversation: Conversation) -> list[dict[str, Any]]:
    """Return the shown branch. Answers without text are left out; the system prompt is the one sent last."""
    turns = conversation.turns
    system = next((turn.request.system for turn in reversed(turns) if turn.request), "")
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system.strip() else []
    for turn in turns:
        messages.append({"role": "user", "content": turn.question})
        if turn.answer and turn.answer.text:
            messages.append(_assistant_message(turn.answer))
    return messages


def _assistant_message(answer: Answer) -> dict[str, Any]:
    """`finish_reason` may also be one that OpenAI does not have: cancelled, timeout."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "model": answer.model}
    if answer.usage:
        message["usage"] = _usage_record(answer.usage)
    return {**message, "finish_reason": answer.finish_reason}


def _usage_record(usage: Usage) -> dict[str, Any]:
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

    An unanswered question stays unanswered; an answer without a question gets an empty one. An answer's model is the
    message's `model`, else `model`; its finish reason is "stop" unless the message has one. Other fields are ignored. A
    system prompt applies to the turns that follow, until the next one; consecutive ones are joined. The turns' time is now,
    as messages have none.

    Raises ValueError, with the reason, where a system prompt would be lost (it comes last, or between a question and its
    answer), and where a message contains anything but text (an image, a tool call).
    """
    if not isinstance(messages, list) or not messages:
        raise ValueError("it contains no list of messages")
    turns, pending_system, asked = list[Turn](), list[str](), None
    now = time.time()
    for number, message in enumerate(messages, 1):
        role, text = _role(number, message), _text(number, message)
        if role in _SYSTEM_ROLES:
            pending_system.append(text)
            continue
        is_answer = role == "assistant" and bool(turns) and turns[-1].answer is None
        if pending_system and is_answer:
            raise ValueError(f"a system message comes before message {number}, between a question and its answer")
        if pending_system:
            system = "\n\n".join(pending_system)
            asked = TurnRequest(now, "", system) if system.strip() else None
            pending_system.clear()
        if not is_answer:
            question = text if role == "user" else ""
            turns.append(Turn(question, parent=turns[-1].id if turns else None, request=asked))
        if role == "assistant":
            turns[-1] = replace(turns[-1], answer=_answer(message, text, model))
    if pending_system:
        raise ValueError("its last message is a system message, which no question follows")
    # Each turn stores its own copy: a small file must not become a large chat.
    if sum(len(turn.request.system) for turn in turns if turn.request) > _MAX_SYSTEM_CHARACTERS:
        raise ValueError("its system prompt is too long for so many messages")
    return Conversation(tuple(turns), turns[-1].id)


def _role(number: int, message: Any) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in (*_SYSTEM_ROLES, "user", "assistant"):
        raise ValueError(f"message {number} has an unknown role")
    return str(role)


def _text(number: int, message: dict[str, Any]) -> str:
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    values = [
        part.get("text") if isinstance(part, dict) and part.get("type") in _TEXT_PARTS else part for part in parts
    ]
    texts = [text for text in values if isinstance(text, str)]
    if len(texts) < len(values) or any(message.get(name) for name in _NON_TEXT_FIELDS):
        raise ValueError(f"message {number} contains something other than text")
    return "".join(texts)


def _answer(message: dict[str, Any], text: str, model: str) -> Answer:
    usage, raw_reason = parse_usage(message.get("usage")), message.get("finish_reason")
    if usage:
        details = message["usage"].get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        usage = replace(usage, cached_tokens=cached if type(cached) is int and cached >= 0 else None)
    own_model = message.get("model")
    reason = raw_reason if raw_reason in get_args(FinishReason) else parse_finish_reason(raw_reason) or "stop"
    return Answer(own_model if isinstance(own_model, str) else model, text, usage, finish_reason=reason)
