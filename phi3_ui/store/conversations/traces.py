"""Builds the MLflow trace of a turn; trace_reader.py parses it.

Trace and span ids are derived from the turn's id, so that recording a turn twice yields one trace. Traces are built after the
answer has ended, off the token path.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Assessment, AssessmentSource, AssessmentSourceType, Span, SpanType, TraceInfo, TraceLocation
from mlflow.entities import Feedback as MlflowFeedback
from mlflow.entities.trace_state import TraceState

from models.model_ids import is_logged_model
from phi3_ui.chat.comparison import find_standing
from phi3_ui.chat.conversation import Feedback
from phi3_ui.chat.turn_json import serialize_turn
from phi3_ui.chat.types import Usage
from phi3_ui.store.conversations.operations import TurnRecord, VoteRecord
from phi3_ui.store.conversations.summaries import finish_reason

# These names are stored: traces of earlier versions must stay readable.
SESSION_KEY, USER_KEY, MODEL_ID_KEY = "mlflow.trace.session", "mlflow.trace.user", "mlflow.modelId"
TOKEN_USAGE_KEY = "mlflow.trace.tokenUsage"  # noqa: S105 - counts of tokens, not a secret
RUN_MODEL_KEY = "phi3_ui.model"
"""The id of a model that is not a logged model."""
TURN_KEY, PARENT_KEY = "phi3_ui.turn", "phi3_ui.parent"
METRIC_PREFIX = "phi3_ui.metrics."
"""The prefix of metrics. Each has its own metadata key, since a backend may truncate values at MAX_METADATA_CHARS."""
LEGACY_METRICS_KEY = "phi3_ui.figures"
"""All metrics as one JSON object, as version 0.1.0 wrote them."""
TITLE_TAG, SHOWN_BRANCH_TAG = "phi3_ui.title", "phi3_ui.shown"
PINNED_TAG = "phi3_ui.pinned"
"""Set to "true" for a pinned conversation."""
TURN_ATTRIBUTE = "phi3_ui.turn"
"""The span attribute with the complete turn as JSON."""
ROUND_KEY, PLACE_KEY, PLACES_KEY = "phi3_ui.round", "phi3_ui.place", "phi3_ui.places"
COMPARED_KEY, BLIND_KEY = "phi3_ui.compared", "phi3_ui.blind"
"""Set to "true" for turns of comparisons, and for those whose models are hidden until the vote."""
FEEDBACK_NAME = "user_feedback"
PREFERENCE_NAME = "preference"
"""The name of the assessment with a vote's verdict on this answer."""
EXCLUSION_KEY = "phi3_ui.exclusion"
"""A metadata key of that assessment: why the vote does not count for ratings."""

MAX_METADATA_CHARS = 250
PREVIEW_CHARS = 1000
"""The length at which MLflow's tables truncate previews."""


def trace_id_for(turn_id: str) -> str:
    """Return the id of the trace that stores a turn."""
    return f"tr-{turn_id}"


def build_trace_info(record: TurnRecord, experiment_id: str) -> TraceInfo:
    """Return the trace's metadata, previews and times, without its spans."""
    turn, answer = record.turn, record.turn.answer
    started_at = _started_at(record)
    metadata = {
        SESSION_KEY: record.conversation_id,
        USER_KEY: record.visitor_id,
        TURN_KEY: turn.id,
        PARENT_KEY: turn.parent or "",
        **{f"{METRIC_PREFIX}{name}": str(value)[:MAX_METADATA_CHARS] for name, value in _build_metrics(record).items()},
        "mlflow.trace_schema.version": "3",
        "mlflow.source.name": "phi3_ui",
    }
    if turn.request and turn.request.model_id:
        # MLflow looks up the value of MODEL_ID_KEY among its logged models.
        key = MODEL_ID_KEY if is_logged_model(turn.request.model_id) else RUN_MODEL_KEY
        metadata[key] = turn.request.model_id
    if turn.request and (place := turn.request.round):
        metadata |= {
            COMPARED_KEY: "true",
            ROUND_KEY: place.round_id,
            PLACE_KEY: str(place.place),
            PLACES_KEY: str(place.places),
        }
        if place.is_blind:
            metadata[BLIND_KEY] = "true"
    if answer and answer.usage:
        metadata[TOKEN_USAGE_KEY] = json.dumps(_token_usage(answer.usage))
    return TraceInfo(
        trace_id=trace_id_for(turn.id),
        trace_location=TraceLocation.from_experiment_id(experiment_id),
        request_time=round(started_at * 1000),
        execution_duration=round((record.ended_at - started_at) * 1000),
        state=TraceState.ERROR if answer and answer.error else TraceState.OK,
        request_preview=turn.question[:PREVIEW_CHARS],
        response_preview=answer.text[:PREVIEW_CHARS] if answer else "",
        trace_metadata=metadata,
        tags={"mlflow.traceName": "chat"},
    )


def build_spans(record: TurnRecord) -> list[Span]:
    """Return a span for the answer, and a child span for loading the model if the answer had to wait for it."""
    turn, answer = record.turn, record.turn.answer
    started_at = _started_at(record)
    inputs: dict[str, Any] = {
        "messages": [{"role": message.role, "content": message.content} for message in record.messages or ()]
    }
    attributes: dict[str, Any] = {"mlflow.llm.model": record.model_name, "phi3_ui.version": record.app_version}
    if turn.request:
        if prefix := turn.request.prefix:
            inputs["messages"].append({"role": "assistant", "content": prefix})
        inputs.update(turn.request.params.as_dict())
        attributes.update({f"phi3_ui.{name}": value for name, value in turn.request.params.as_dict().items()})
    if answer and answer.usage:
        attributes["mlflow.chat.tokenUsage"] = _token_usage(answer.usage)
    attributes.update({f"phi3_ui.{name}": value for name, value in _build_metrics(record).items()})
    outputs = {
        "object": "chat.completion",
        "model": record.model_name,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer.text if answer else ""},
                "finish_reason": answer.finish_reason if answer else None,
            }
        ],
    }
    attributes |= {
        "mlflow.spanInputs": inputs,
        "mlflow.spanOutputs": outputs,
        TURN_ATTRIBUTE: json.loads(serialize_turn(turn)),
    }
    error = answer.error[0] if answer and answer.error else ""
    root = _SpanSpec("chat", SpanType.CHAT_MODEL, started_at, record.ended_at, attributes, error)
    if answer is None or answer.load_seconds is None:
        return [root.build(turn.id)]
    loaded_at = min(started_at + answer.load_seconds, record.ended_at)
    model = {"mlflow.spanInputs": {"model_id": turn.request.model_id if turn.request else ""}}
    load = _SpanSpec("load model", SpanType.TASK, started_at, loaded_at, model, parent=root.name)
    return [root.build(turn.id), load.build(turn.id)]


def build_assessment(visitor_id: str, feedback: Feedback) -> Assessment:
    """Return a visitor's feedback as an MLflow assessment."""
    return MlflowFeedback(
        name=FEEDBACK_NAME,
        value=feedback.good,
        rationale=feedback.comment,  # not None, which an update would ignore
        source=AssessmentSource(AssessmentSourceType.HUMAN, visitor_id),
    )


def build_preference(vote: VoteRecord, place: int) -> Assessment:
    """Return a vote's verdict on the answer at one place, as an MLflow assessment."""
    return MlflowFeedback(
        name=PREFERENCE_NAME,
        value=find_standing(vote.preference, place),
        rationale=vote.reason,
        source=AssessmentSource(AssessmentSourceType.HUMAN, vote.visitor_id),
        metadata={EXCLUSION_KEY: vote.exclusion} if vote.exclusion else {},
        create_time_ms=round(vote.voted_at * 1000),
    )


def _build_metrics(record: TurnRecord) -> dict[str, str | int | float]:
    """Return the known metrics of a turn, by their stored names."""
    answer, request = record.turn.answer, record.turn.request
    usage, timings = (answer.usage, answer.timings) if answer else (None, None)
    metrics = {
        "model": record.model_name,
        "finish_reason": finish_reason(record),
        "seed": request.params.seed if request else None,
        "cached_tokens": usage.cached_tokens if usage else None,
        "seconds": timings.seconds if timings else None,
        "time_to_first_token": timings.time_to_first_token if timings else None,
        "tokens_per_second": timings.tokens_per_second if timings else None,
    }
    return {name: value for name, value in metrics.items() if value is not None}


def _started_at(record: TurnRecord) -> float:
    return min(record.turn.request.asked_at, record.ended_at) if record.turn.request else record.ended_at


def _token_usage(usage: Usage) -> dict[str, int]:
    """Return the counts by MLflow's names: https://mlflow.org/docs/latest/genai/tracing/token-usage-cost."""
    counts = {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    return counts if usage.cached_tokens is None else {**counts, "cache_read_input_tokens": usage.cached_tokens}


@dataclass(frozen=True)
class _SpanSpec:
    """A span of a turn's trace; times in seconds since 1970, UTC."""

    name: str
    kind: str
    started_at: float
    ended_at: float
    attributes: dict[str, Any]
    error: str = ""
    parent: str | None = None

    def build(self, turn_id: str) -> Span:
        """Build the span. Its OpenTelemetry ids are derived from the turn's id, so that writing it twice overwrites it."""
        own = {"mlflow.traceRequestId": trace_id_for(turn_id), "mlflow.spanType": self.kind}
        attributes = {**own, **self.attributes}
        return Span.from_dict(
            {
                "trace_id": base64.b64encode(bytes.fromhex(turn_id)).decode(),
                "span_id": _span_id(turn_id, self.name),
                "parent_span_id": _span_id(turn_id, self.parent) if self.parent else None,
                "name": self.name,
                "start_time_unix_nano": int(self.started_at * 1e9),
                "end_time_unix_nano": int(self.ended_at * 1e9),
                "events": [],
                "status": {"code": "STATUS_CODE_ERROR" if self.error else "STATUS_CODE_OK", "message": self.error},
                "attributes": {key: json.dumps(value, ensure_ascii=False) for key, value in attributes.items()},
            }
        )


def _span_id(turn_id: str, name: str) -> str:
    return base64.b64encode(hashlib.sha256(f"{turn_id} {name}".encode()).digest()[:8]).decode()
