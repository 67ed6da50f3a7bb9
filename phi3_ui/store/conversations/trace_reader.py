"""Parses turns from MLflow traces, including damaged traces and those of other writers."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast, get_args

from mlflow.entities import Assessment, AssessmentSourceType, Trace, TraceInfo
from mlflow.exceptions import MlflowException

from phi3_ui.chat.comparison import Exclusion, RoundPlace, Standing, Verdict
from phi3_ui.chat.conversation import Feedback, Turn
from phi3_ui.chat.turn_json import parse_turn as parse_turn_json
from phi3_ui.store.conversations.summaries import TurnMetrics, TurnSummary
from phi3_ui.store.conversations.traces import (
    BLIND_KEY,
    EXCLUSION_KEY,
    FEEDBACK_NAME,
    LEGACY_METRICS_KEY,
    METRIC_PREFIX,
    MODEL_ID_KEY,
    PARENT_KEY,
    PLACE_KEY,
    PLACES_KEY,
    PREFERENCE_NAME,
    PREVIEW_CHARS,
    ROUND_KEY,
    RUN_MODEL_KEY,
    SESSION_KEY,
    TOKEN_USAGE_KEY,
    TURN_ATTRIBUTE,
    TURN_KEY,
)

_LATEST_TIME = 253_370_764_800.0
"""9999-01-01 in seconds since 1970; `datetime` cannot show much later times."""


_N = TypeVar("_N", int, float)


class UnreadableTraceError(ValueError):
    """A trace of this app is damaged. str() describes the damage."""


def parse_summary(info: TraceInfo) -> TurnSummary | None:
    """Return the summary of a turn, from its trace's metadata and previews. Invalid metrics count as unknown.

    Returns:
        None if this app did not write the trace.

    Raises:
        UnreadableTraceError: This app wrote it, but its conversation or its time is missing or invalid.
    """
    metadata = info.trace_metadata or {}
    turn_id, conversation_id = metadata.get(TURN_KEY), metadata.get(SESSION_KEY)
    if not turn_id:
        return None
    if not conversation_id:
        raise UnreadableTraceError("it has no conversation")
    if not isinstance(info.request_time, int) or not 0 <= info.request_time / 1000 < _LATEST_TIME:
        raise UnreadableTraceError("its time is invalid")
    metrics, tokens = _read_metrics(metadata), _parse_json_object(metadata.get(TOKEN_USAGE_KEY))
    question, answer = info.request_preview or "", info.response_preview or ""
    return TurnSummary(
        TurnMetrics(
            conversation_id=conversation_id,
            turn_id=turn_id,
            asked_at=info.request_time / 1000,
            model=str(metrics.get("model", "")),
            model_id=metadata.get(MODEL_ID_KEY) or metadata.get(RUN_MODEL_KEY, ""),
            finish_reason=str(metrics.get("finish_reason", "")),
            prompt_tokens=_parse_number(tokens.get("input_tokens"), int),
            completion_tokens=_parse_number(tokens.get("output_tokens"), int),
            time_to_first_token=_parse_number(metrics.get("time_to_first_token"), float),
            tokens_per_second=_parse_number(metrics.get("tokens_per_second"), float),
        ),
        metadata.get(PARENT_KEY) or None,
        question,
        f"{question}\n{answer}",
        is_blind=metadata.get(BLIND_KEY) == "true",
        round=_parse_place(metadata),
    )


def _parse_place(metadata: dict[str, str]) -> RoundPlace | None:
    """Return a turn's place in its round; None if it has no round, or its metadata is damaged."""
    try:
        place, places = int(metadata[PLACE_KEY]), int(metadata[PLACES_KEY])
    except (KeyError, ValueError):
        return None
    return RoundPlace(metadata.get(ROUND_KEY, ""), place, places, metadata.get(BLIND_KEY) == "true")


def parse_turn(trace: Trace) -> Turn | None:
    """Return the complete turn, with its feedback, from a trace with its spans; None if this app did not write it.

    Raises:
        UnreadableTraceError: This app wrote it, but its turn is missing or damaged.
    """
    turn_id = (trace.info.trace_metadata or {}).get(TURN_KEY)
    try:
        # MLflow parses a span when its attributes are first read.
        stored = next(filter(None, (span.attributes.get(TURN_ATTRIBUTE) for span in trace.data.spans)), None)
    except (MlflowException, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnreadableTraceError("its spans cannot be parsed") from error
    if stored is None and not turn_id:
        return None
    try:
        turn = parse_turn_json(json.dumps(stored))
    except (ValueError, RecursionError) as error:
        raise UnreadableTraceError("its turn cannot be parsed") from error
    if turn.id != turn_id:
        raise UnreadableTraceError("it holds the turn of another trace")
    if turn.request and not 0 <= turn.request.asked_at < _LATEST_TIME:
        raise UnreadableTraceError("its time is invalid")
    return replace(turn, feedback=parse_feedback(trace.info))


def parse_feedback(info: TraceInfo) -> Feedback | None:
    """Return the visitor's feedback on the answer."""
    assessment = find_assessment(info)
    if assessment is None or assessment.feedback is None:
        return None
    return Feedback(bool(assessment.feedback.value), assessment.rationale or "")


def find_assessment(info: TraceInfo) -> Assessment | None:
    """Return the assessment with the visitor's feedback."""
    return _find_human_assessment(info, FEEDBACK_NAME)


def find_preference(info: TraceInfo) -> Assessment | None:
    """Return the assessment with a user's vote."""
    return _find_human_assessment(info, PREFERENCE_NAME)


def parse_verdict(info: TraceInfo) -> Verdict | None:
    """Return the verdict of a user's vote on the answer; None if there is no vote, or it is damaged."""
    assessment = find_preference(info)
    if assessment is None or assessment.feedback is None or assessment.feedback.value not in get_args(Standing):
        return None
    exclusion = (assessment.metadata or {}).get(EXCLUSION_KEY)
    return Verdict(
        cast("Standing", assessment.feedback.value),
        cast("Exclusion", exclusion) if exclusion in get_args(Exclusion) else None,
        assessment.rationale or "",
        (assessment.create_time_ms or 0) / 1000,
    )


def _find_human_assessment(info: TraceInfo, name: str) -> Assessment | None:
    human = AssessmentSourceType.HUMAN
    named = (one for one in info.assessments or () if one.name == name and one.source)
    return next((one for one in named if one.source.source_type == human), None)


def has_truncated_preview(info: TraceInfo) -> bool:
    """Return whether the question or the answer may be longer than its preview."""
    return max(len(info.request_preview or ""), len(info.response_preview or "")) >= PREVIEW_CHARS


def _read_metrics(metadata: dict[str, str]) -> dict[str, Any]:
    current = {
        key.removeprefix(METRIC_PREFIX): value for key, value in metadata.items() if key.startswith(METRIC_PREFIX)
    }
    return _parse_json_object(metadata.get(LEGACY_METRICS_KEY)) | current


def _parse_json_object(text: str | None) -> dict[str, Any]:
    """Parse a JSON object; empty if `text` is not one, for instance because it was truncated."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _parse_number(value: Any, kind: Callable[[Any], _N]) -> _N | None:
    """Return a non-negative finite number; None for anything else."""
    try:
        number = kind(value)
        return number if math.isfinite(number) and number >= 0 else None
    except (ValueError, TypeError, OverflowError):
        return None
