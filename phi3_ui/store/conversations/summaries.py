"""Summaries and metrics of conversations and turns, for lists and charts."""

from dataclasses import dataclass

from phi3_ui.chat.comparison import RoundPlace
from phi3_ui.store.conversations.operations import TurnRecord


@dataclass(frozen=True)
class ConversationSummary:
    """A conversation in a list."""

    id: str
    title: str
    """The title given by the visitor, or else the first question."""
    last_asked_at: float
    """When its last question was asked, in seconds since 1970, UTC."""
    is_pinned: bool = False


@dataclass(frozen=True)
class TurnMetrics:
    """The metrics of one turn. None and empty strings mean unknown."""

    conversation_id: str
    turn_id: str
    asked_at: float
    """Seconds since 1970, UTC."""
    model: str
    """The model's name as shown on the page."""
    model_id: str
    finish_reason: str
    """A FinishReason, or `error`."""
    prompt_tokens: int | None
    completion_tokens: int | None
    time_to_first_token: float | None
    """Seconds."""
    tokens_per_second: float | None


@dataclass(frozen=True)
class TurnSummary:
    """A turn in the index."""

    metrics: TurnMetrics
    parent_id: str | None
    question: str
    text: str
    """Question and answer, for the search; only their beginnings if read from a trace without spans."""
    is_blind: bool = False
    """Whether its model and its metrics are hidden until its round has a vote."""
    round: RoundPlace | None = None
    """Its place in a round of a comparison."""


def summarize_record(record: TurnRecord) -> TurnSummary:
    """Return the summary of a turn that is not in the store yet."""
    turn, answer = record.turn, record.turn.answer
    usage, timings = (answer.usage, answer.timings) if answer else (None, None)
    metrics = TurnMetrics(
        conversation_id=record.conversation_id,
        turn_id=turn.id,
        asked_at=turn.request.asked_at if turn.request else record.ended_at,
        model=record.model_name,
        model_id=turn.request.model_id if turn.request else "",
        finish_reason=finish_reason(record) or "",
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        time_to_first_token=timings.time_to_first_token if timings else None,
        tokens_per_second=timings.tokens_per_second if timings else None,
    )
    text = f"{turn.question}\n{answer.text if answer else ''}"
    place = turn.request.round if turn.request else None
    return TurnSummary(
        metrics, turn.parent, turn.question, text, is_blind=place is not None and place.is_blind, round=place
    )


def finish_reason(record: TurnRecord) -> str | None:
    """Return why the answer ended: a FinishReason, or `error`; None while it is being generated."""
    answer = record.turn.answer
    if answer is None:
        return None
    return "error" if answer.error else answer.finish_reason
