"""Builders for conversations, turns and records, as the app creates them."""

import time
from dataclasses import replace
from typing import TypedDict, Unpack

from phi3_ui.chat.conversation import Answer, Conversation, Turn, TurnRequest
from phi3_ui.chat.types import ContextUsage, FinishReason, GenerationParams, Timings, Usage
from phi3_ui.store.conversations.operations import TurnRecord

ME = "visitor-0123456789abcdef"
MODEL = "m-0123456789abcdef"


class AnswerFields(TypedDict, total=False):
    """The fields of Answer that a test may set."""

    usage: Usage | None
    finish_reason: FinishReason | None
    error: tuple[str, dict[str, str | int]] | None
    context: ContextUsage | None
    load_seconds: float | None


def make_answer(text: str, **fields: Unpack[AnswerFields]) -> Answer:
    answer = Answer("demo · ONNX", text, Usage(40, 12, 30), Timings(0.25, 1.5, 60.0), "stop")
    return replace(answer, **fields)


def make_request(asked_at: float | None = None, temperature: float | None = None) -> TurnRequest:
    """Return a request made at `asked_at`, in seconds since the epoch; now by default."""
    return TurnRequest(asked_at or time.time(), MODEL, "Be brief.", GenerationParams(seed=7, temperature=temperature))


def ask(
    conversation: Conversation, question: str, asked_at: float | None = None, temperature: float | None = None
) -> Conversation:
    """Append a turn without an answer."""
    return conversation.with_question(question, make_request(asked_at, temperature))


def make_conversation(question: str = "Hi", answer: str = "Hello", asked_at: float | None = None) -> Conversation:
    """Return a conversation of one answered turn."""
    return ask(Conversation(), question, asked_at).with_answer(make_answer(answer))


def make_record(conversation_id: str, conversation: Conversation, visitor_id: str = ME) -> TurnRecord:
    """Return the record of the last shown turn, which has just ended."""
    turn = conversation.turns[-1]
    messages = conversation.truncated_at(turn.id).build_messages(turn.request.system if turn.request else "")
    return TurnRecord(visitor_id, conversation_id, turn, "demo · ONNX", time.time(), "0.1.0", messages)


def last_turn_without_answer(conversation: Conversation) -> Turn:
    return replace(conversation.turns[-1], answer=None)
