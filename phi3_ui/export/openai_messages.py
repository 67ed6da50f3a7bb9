"""A conversation as OpenAI's messages, and back."""

import time
from dataclasses import replace
from typing import Any, get_args

from phi3_ui.chat.conversation import Answer, Conversation, Turn, TurnRequest
from phi3_ui.chat.types import FinishReason, Usage
from phi3_ui.contracts.parsing import parse_finish_reason, parse_usage

_SYSTEM = ("system", "developer")
_TEXT = ("text", "input_text", "output_text")
_NO_TEXT = ("tool_calls", "function_call", "audio", "refusal")
_SYSTEM_CHARACTERS = 50_000_000


def to_openai_messages(conversation: Conversation) -> list[dict[str, Any]]:
    """The shown branch. An answer that got no text is left out; the system prompt is the one that was sent last."""
    turns = conversation.turns
    system = next((turn.request.system for turn in reversed(turns) if turn.request), "")
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system.strip() else []
    for turn in turns:
        messages.append({"role": "user", "content": turn.question})
        if turn.answer and turn.answer.text:
            messages.append(_said(turn.answer))
    return messages


def _said(answer: Answer) -> dict[str, Any]:
    """`finish_reason` may also be one of ours, which OpenAI has not: cancelled, timeout."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "model": answer.model}
    if answer.usage:
        message["usage"] = _counts(answer.usage)
    return {**message, "finish_reason": answer.finish_reason}


def _counts(usage: Usage) -> dict[str, Any]:
    counts: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_tokens is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    return counts


def from_openai_messages(messages: Any, model: str = "") -> Conversation:
    """Messages as turns one after the other. ValueError says what is in the way.

    A question that none answers waits for its answer; an answer that no question leads to gets an empty one. An answer
    is of the message's `model`, else of `model`, and whole unless its `finish_reason` says otherwise. Other fields of a
    message are not read.

    A system prompt is that of the turns that follow, until there is another; several in a row are one. They are asked
    now, as the messages say no time. Where this would lose one (it comes last, or between a question and its answer),
    and where a message holds what is no text (an image, a call of a tool), that is a ValueError.
    """
    if not isinstance(messages, list) or not messages:
        raise ValueError("it holds no list of messages")
    turns, before, asked = list[Turn](), list[str](), None
    now = time.time()
    for number, message in enumerate(messages, 1):
        role, text = _role(number, message), _text(number, message)
        if role in _SYSTEM:
            before.append(text)
            continue
        answers = role == "assistant" and bool(turns) and turns[-1].answer is None
        if before and answers:
            raise ValueError(f"a system message comes before message {number}, between a question and its answer")
        if before:
            system = "\n\n".join(before)
            asked = TurnRequest(now, "", system) if system.strip() else None
            before.clear()
        if not answers:
            question = text if role == "user" else ""
            turns.append(Turn(question, parent=turns[-1].id if turns else None, request=asked))
        if role == "assistant":
            turns[-1] = replace(turns[-1], answer=_answer(message, text, model))
    if before:
        raise ValueError("its last message is the system's, and no question follows it")
    # Each turn is kept with its own copy: a small file must not become a large chat.
    if sum(len(turn.request.system) for turn in turns if turn.request) > _SYSTEM_CHARACTERS:
        raise ValueError("its system prompt is too long for so many messages")
    return Conversation(tuple(turns), turns[-1].id)


def _role(number: int, message: Any) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in (*_SYSTEM, "user", "assistant"):
        raise ValueError(f"message {number} is of nobody that talks in a chat")
    return str(role)


def _text(number: int, message: dict[str, Any]) -> str:
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    given = [part.get("text") if isinstance(part, dict) and part.get("type") in _TEXT else part for part in parts]
    texts = [text for text in given if isinstance(text, str)]
    if len(texts) < len(given) or any(message.get(name) for name in _NO_TEXT):
        raise ValueError(f"message {number} holds what is no text")
    return "".join(texts)


def _answer(message: dict[str, Any], text: str, model: str) -> Answer:
    usage, reason = parse_usage(message.get("usage")), message.get("finish_reason")
    if usage:
        details = message["usage"].get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        usage = replace(usage, cached_tokens=cached if type(cached) is int and cached >= 0 else None)
    named = message.get("model")
    ended = reason if reason in get_args(FinishReason) else parse_finish_reason(reason) or "stop"
    return Answer(named if isinstance(named, str) else model, text, usage, finish_reason=ended)
