"""Changes to the conversations in the store, as values and as the JSON of the journal.

The JSON names (aliases and `kind`) are a stored format: journals of earlier versions must stay readable. Increment FORMAT with
every change that an earlier version would misread.

- Format 1, without a field `format`: a turn's record contains all messages sent to the model, that is the whole chat.
- Format 2: a record contains only its own turn, so that the journal grows linearly with a chat. See prompt_restorer.py.
- Format 3: adds votes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter

from phi3_ui.chat.comparison import Exclusion, Preference, Verdict, find_standing
from phi3_ui.chat.conversation import Answer, Conversation, Feedback, Turn
from phi3_ui.chat.turn_json import StoredTurn
from phi3_ui.chat.types import Message

FORMAT = 3

_VisitorId = Annotated[str, Field(alias="person")]
_ConversationId = Annotated[str, Field(alias="conversation")]


@dataclass(frozen=True)
class TurnRecord:
    """Write a turn as a trace, replacing an earlier record of the same turn."""

    visitor_id: _VisitorId
    conversation_id: _ConversationId
    turn: StoredTurn
    model_name: Annotated[str, Field(alias="model")]
    """The answering model's name as shown on the page."""
    ended_at: Annotated[float, Field(alias="ended")]
    """Seconds since 1970, UTC."""
    app_version: Annotated[str, Field(alias="version")]
    messages: Annotated[tuple[Message, ...] | None, Field(exclude=True)] = None
    """The messages sent to the model, ending with the turn's question. None: to be restored from the preceding turns."""
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
class VoteRecord:
    """Write a user's vote on a round of a comparison to the traces of all its answers."""

    visitor_id: _VisitorId
    conversation_id: _ConversationId
    turn_ids: tuple[str, ...]
    """The turns of the round, from left to right."""
    preference: Preference
    voted_at: float
    """Seconds since 1970, UTC."""
    exclusion: Exclusion | None = None
    """Why it does not count for ratings; None if it does."""
    reason: str = ""
    """The user's reason, in their own words."""
    kind: Literal["vote"] = "vote"

    def list_verdicts(self) -> dict[str, Verdict]:
        """Return its verdict on each answer, by turn id."""
        return {
            turn_id: Verdict(find_standing(self.preference, place), self.exclusion, self.reason, self.voted_at)
            for place, turn_id in enumerate(self.turn_ids)
        }


@dataclass(frozen=True)
class ConversationDeletion:
    """Delete all traces of a conversation."""

    visitor_id: _VisitorId
    conversation_id: _ConversationId
    due_at: Annotated[float, Field(alias="due")]
    """The earliest time of the deletion, in seconds since 1970, UTC; it can be cancelled before."""
    kind: Literal["delete"] = "delete"


@dataclass(frozen=True)
class ConversationImport:
    """Import a conversation atomically: every turn with its ratings, and the tags."""

    visitor_id: _VisitorId
    conversation_id: _ConversationId
    turns: tuple[StoredTurn, ...]
    """At least one turn, all answered, parents before their children, ordered by time."""
    tags: dict[str, str]
    """The conversation's tags: its title and the branch to show."""
    app_version: Annotated[str, Field(alias="version")]
    kind: Literal["import"] = "import"

    def list_steps(self) -> "list[TurnRecord | FeedbackChange | TagChange]":
        """Return its steps, in order."""
        return list(self._iterate_steps())

    def _iterate_steps(self) -> "Iterator[TurnRecord | FeedbackChange | TagChange]":
        owner = (self.visitor_id, self.conversation_id)
        for turn in self.turns:
            yield self._build_record(turn)
            if turn.feedback:
                yield FeedbackChange(*owner, turn.id, turn.feedback)
        for key, value in self.tags.items():
            yield TagChange(*owner, self.turns[0].id, key, value)

    def _build_record(self, turn: Turn) -> TurnRecord:
        """Build a turn's record. Its only message is its own question: what else was sent to the model is unknown."""
        if turn.request is None or turn.answer is None:
            raise ValueError(f"turn {turn.id} of conversation {self.conversation_id} has no answer")
        ended_at = turn.request.asked_at + (turn.answer.timings.seconds if turn.answer.timings else 0.0)
        question = Conversation((replace(turn, answer=None, parent=None),), turn.id)
        return TurnRecord(
            self.visitor_id,
            self.conversation_id,
            turn,
            turn.answer.model,
            ended_at,
            self.app_version,
            question.build_messages(turn.request.system),
        )


Step = TurnRecord | FeedbackChange | TagChange | VoteRecord | ConversationDeletion
"""An operation that changes the store in a few requests, or deletes a conversation."""

Operation = Step | ConversationImport


def list_steps(operation: Operation) -> list[Step]:
    """Return the steps of an operation: those of an import, or the operation itself."""
    return [*operation.list_steps()] if isinstance(operation, ConversationImport) else [operation]


def _check_format(data: Any) -> Any:
    if isinstance(data, dict) and data.get("format", 1) not in range(1, FORMAT + 1):
        raise ValueError("another version of this app wrote it")
    return data


_OPERATION: TypeAdapter[Operation] = TypeAdapter(
    Annotated[Operation, Field(discriminator="kind"), BeforeValidator(_check_format)]
)


def serialize_operation(operation: Operation) -> bytes:
    """Return the operation as one line of JSON."""
    fields = memoryview(_OPERATION.dump_json(operation, by_alias=True))[1:]
    return b"".join((b'{"format":%d,' % FORMAT, fields))


def parse_operation(text: str | bytes) -> Operation:
    """Parse the output of `serialize_operation`, which omits a record's messages. Raises ValueError for anything else."""
    return _OPERATION.validate_json(text)


def interrupted_record(started: TurnRecord, text: str, ended_at: float) -> TurnRecord:
    """Return the record of a turn whose process ended after it had generated `text` of the answer."""
    answer = Answer(started.model_name, text, error=("interrupted", {}))
    return replace(started, ended_at=ended_at, turn=replace(started.turn, answer=answer))
