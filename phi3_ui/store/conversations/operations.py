"""Changes to the conversations in the store, as values and as the JSON of the journal.

The JSON names (aliases and `kind`) are a stored format: journals of earlier versions must stay readable.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from phi3_ui.chat.conversation import Answer, Feedback
from phi3_ui.chat.turn_json import StoredTurn
from phi3_ui.chat.types import Message

_VisitorId = Annotated[str, Field(alias="person")]
_ConversationId = Annotated[str, Field(alias="conversation")]


@dataclass(frozen=True)
class TurnRecord:
    """Write a turn as a trace, replacing an earlier record of the same turn."""

    visitor_id: _VisitorId
    conversation_id: _ConversationId
    turn: StoredTurn
    model_name: Annotated[str, Field(alias="model")]
    """The answering model, as the page calls it."""
    messages: tuple[Message, ...]
    """The messages sent to the model; the turn's question is the last one."""
    ended_at: Annotated[float, Field(alias="ended")]
    """Seconds since 1970, UTC."""
    app_version: Annotated[str, Field(alias="version")]
    kind: Literal["record"] = "record"


@dataclass(frozen=True)
class FeedbackChange:
    """Set or remove a visitor's feedback on one answer."""

    visitor_id: _VisitorId
    conversation_id: _ConversationId
    turn_id: str
    feedback: Feedback | None
    """None removes the feedback."""
    kind: Literal["rate"] = "rate"


@dataclass(frozen=True)
class TagChange:
    """Set a tag of a conversation, which is stored on the trace of its first turn."""

    visitor_id: _VisitorId
    conversation_id: _ConversationId
    turn_id: str
    key: str
    value: str
    kind: Literal["mark"] = "mark"


@dataclass(frozen=True)
class ConversationDeletion:
    """Delete all traces of a conversation."""

    visitor_id: _VisitorId
    conversation_id: _ConversationId
    due_at: Annotated[float, Field(alias="due")]
    """The earliest time of the deletion, in seconds since 1970, UTC; it can be cancelled before."""
    kind: Literal["delete"] = "delete"


Operation = TurnRecord | FeedbackChange | TagChange | ConversationDeletion
_OPERATION: TypeAdapter[Operation] = TypeAdapter(Annotated[Operation, Field(discriminator="kind")])


def serialize_operation(operation: Operation) -> str:
    """The operation as one line of JSON."""
    return _OPERATION.dump_json(operation, by_alias=True).decode()


def parse_operation(text: str | bytes) -> Operation:
    """Inverse of `serialize_operation`. Raises ValueError if `text` is not an operation."""
    return _OPERATION.validate_json(text)


def interrupted_record(started: TurnRecord, text: str, ended_at: float) -> TurnRecord:
    """The record of a turn whose process ended after it had written `text` of the answer."""
    answer = Answer(started.model_name, text, error=("interrupted", {}))
    return replace(started, ended_at=ended_at, turn=replace(started.turn, answer=answer))
