"""What is to be written of chats, as values, and as JSON in between."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from phi3_ui.chat.conversation import Answer, Feedback
from phi3_ui.chat.turn_json import StoredTurn
from phi3_ui.chat.types import Message


@dataclass(frozen=True)
class TurnRecord:
    """A turn of one person's conversation, to become a trace.

    `model` is what the answer's model is called, `messages` are what it was sent; `ended` is in seconds since 1970, UTC;
    `version` is the app's. The last of them is the turn's question.
    """

    person: str
    conversation: str
    turn: StoredTurn
    model: str
    messages: tuple[Message, ...]
    ended: float
    version: str
    kind: Literal["record"] = "record"


@dataclass(frozen=True)
class FeedbackChange:
    """A person's feedback on one answer; None takes it back."""

    person: str
    conversation: str
    turn_id: str
    feedback: Feedback | None
    kind: Literal["rate"] = "rate"


@dataclass(frozen=True)
class TagChange:
    """A tag of a conversation, kept with its first turn."""

    person: str
    conversation: str
    turn_id: str
    key: str
    value: str
    kind: Literal["mark"] = "mark"


@dataclass(frozen=True)
class ConversationDeletion:
    """A conversation that is to go, not before `due` (seconds since 1970, UTC)."""

    person: str
    conversation: str
    due: float
    kind: Literal["delete"] = "delete"


Operation = TurnRecord | FeedbackChange | TagChange | ConversationDeletion
_OP: TypeAdapter[Operation] = TypeAdapter(Annotated[Operation, Field(discriminator="kind")])


def serialize_operation(op: Operation) -> str:
    return _OP.dump_json(op).decode()


def parse_operation(text: str | bytes) -> Operation:
    """ValueError where `text` is none."""
    return _OP.validate_json(text)


def interrupted(begun: TurnRecord, text: str, ended: float) -> TurnRecord:
    """The record of a turn whose process ended with so much of its answer written."""
    return replace(
        begun, ended=ended, turn=replace(begun.turn, answer=Answer(begun.model, text, error=("interrupted", {})))
    )
