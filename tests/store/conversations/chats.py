"""Turns as the app records them, made up."""

import time
from dataclasses import replace

from phi3_ui.chat.conversation import Answer, Conversation, Turn, TurnRequest
from phi3_ui.chat.types import GenerationParams, Timings, Usage
from phi3_ui.store.conversations.operations import TurnRecord

ME = "visitor-0123456789abcdef"
MODEL = "m-0123456789abcdef"


def answer(text: str, **changes: object) -> Answer:
    given = Answer("demo · ONNX", text, Usage(40, 12, 30), Timings(0.25, 1.5, 60.0), "stop")
    return replace(given, **changes)


def record(conversation: str, talk: Conversation, person: str = ME) -> TurnRecord:
    """Of the last turn shown, which ended just now."""
    turn = talk.turns[-1]
    messages = talk.truncated_at(turn.id).build_messages(turn.request.system if turn.request else "")
    return TurnRecord(person, conversation, turn, "demo · ONNX", messages, time.time(), "0.1.0")


def ask(talk: Conversation, question: str, at: float | None = None, **given: object) -> Conversation:
    return talk.with_question(question, asked(at, **given))


def asked(at: float | None = None, **given: object) -> TurnRequest:
    return TurnRequest(at or time.time(), MODEL, "Be brief.", GenerationParams(seed=7, **given))


def unanswered(talk: Conversation) -> Turn:
    return replace(talk.turns[-1], answer=None)
