"""A turn as an MLflow trace, and back.

The trace's id is made of the turn's, so that a turn that is recorded twice is one trace. It is put together here, and
not while the model answers: what is recorded costs the answer nothing.
"""

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

from mlflow.entities import Assessment, AssessmentSource, AssessmentSourceType, Span, SpanType, TraceInfo, TraceLocation
from mlflow.entities import Feedback as MlflowFeedback
from mlflow.entities.trace_state import TraceState

from phi3_ui.chat.conversation import Answer, Feedback, Turn
from phi3_ui.chat.turn_json import parse_turn, serialize_turn
from phi3_ui.chat.types import Usage
from phi3_ui.store.conversations.operations import TurnRecord

SESSION, USER, MODEL_ID = "mlflow.trace.session", "mlflow.trace.user", "mlflow.modelId"
TURN, PARENT, FIGURES = "phi3_ui.turn", "phi3_ui.parent", "phi3_ui.figures"
TITLE, SHOWN = "phi3_ui.title", "phi3_ui.shown"
FEEDBACK = "user_feedback"

_WHOLE_TURN = "phi3_ui.turn"  # the span's attribute that a turn is read from again
PREVIEW = 1000  # characters, as MLflow's tables hold


def trace_id_for(turn_id: str) -> str:
    return f"tr-{turn_id}"


def trace_info(record: TurnRecord, experiment_id: str) -> TraceInfo:
    turn, answer = record.turn, record.turn.answer
    begun = _begun(record)
    metadata = {
        SESSION: record.conversation,
        USER: record.person,
        TURN: turn.id,
        PARENT: turn.parent or "",
        FIGURES: json.dumps(figures(record)),
        "mlflow.trace_schema.version": "3",
        "mlflow.source.name": "phi3_ui",
    }
    if turn.request and turn.request.model_id:
        metadata[MODEL_ID] = turn.request.model_id
    if answer and answer.usage:
        metadata["mlflow.trace.tokenUsage"] = json.dumps(_token_usage(answer.usage))
    return TraceInfo(
        trace_id=trace_id_for(turn.id),
        trace_location=TraceLocation.from_experiment_id(experiment_id),
        request_time=int(begun * 1000),
        execution_duration=int((record.ended - begun) * 1000),
        state=TraceState.ERROR if answer and answer.error else TraceState.OK,
        request_preview=turn.question[:PREVIEW],
        response_preview=answer.text[:PREVIEW] if answer else "",
        trace_metadata=metadata,
        tags={"mlflow.traceName": "chat"},
    )


def spans(record: TurnRecord) -> list[Span]:
    """The answer as a span, and under it the load of its model, where it had to wait for that."""
    turn, answer = record.turn, record.turn.answer
    begun = _begun(record)
    inputs: dict[str, Any] = {"messages": [{"role": one.role, "content": one.content} for one in record.messages]}
    attributes: dict[str, Any] = {"mlflow.llm.model": record.model, "phi3_ui.version": record.version}
    if turn.request:
        inputs.update(turn.request.params.as_dict())
        attributes.update({f"phi3_ui.{name}": value for name, value in turn.request.params.as_dict().items()})
    if answer and answer.usage:
        attributes["mlflow.chat.tokenUsage"] = _token_usage(answer.usage)
    attributes.update({f"phi3_ui.{name}": value for name, value in figures(record).items()})
    outputs = {
        "object": "chat.completion",
        "model": record.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer.text if answer else ""},
                "finish_reason": answer.finish_reason if answer else None,
            }
        ],
    }
    error = answer.error[0] if answer and answer.error else ""
    attributes |= {
        "mlflow.spanInputs": inputs,
        "mlflow.spanOutputs": outputs,
        _WHOLE_TURN: json.loads(serialize_turn(turn)),
    }
    root = _span(record, "chat", SpanType.CHAT_MODEL, begun, record.ended, attributes, error)
    if answer is None or answer.load_seconds is None:
        return [root]
    loaded = min(begun + answer.load_seconds, record.ended)
    model = {"mlflow.spanInputs": {"model_id": turn.request.model_id if turn.request else ""}}
    return [root, _span(record, "load model", SpanType.TASK, begun, loaded, model, "", within="chat")]


def figures(record: TurnRecord) -> dict[str, Any]:
    """What the charts and lists show of a turn, without its texts."""
    answer, asked = record.turn.answer, record.turn.request
    found: dict[str, Any] = {"model": record.model, "finish_reason": _finish(answer)}
    if asked and asked.params.seed is not None:
        found["seed"] = asked.params.seed
    if answer and answer.usage and answer.usage.cached_tokens is not None:
        found["cached_tokens"] = answer.usage.cached_tokens
    if answer and answer.timings:
        timings = answer.timings
        found["seconds"] = timings.seconds
        found["time_to_first_token"] = timings.time_to_first_token
        found["tokens_per_second"] = timings.tokens_per_second
    return {name: value for name, value in found.items() if value is not None}


def turn_from(trace: Any) -> Turn | None:
    """The turn that a trace with its spans holds, with its feedback; None if it is no trace of ours."""
    whole = next(filter(None, (span.attributes.get(_WHOLE_TURN) for span in trace.data.spans)), None)
    try:
        return replace(parse_turn(json.dumps(whole)), feedback=feedback_of(trace.info)) if whole else None
    except ValueError:
        return None


def feedback_of(info: TraceInfo) -> Feedback | None:
    given = assessment_of(info)
    return Feedback(bool(given.feedback.value), given.rationale or "") if given and given.feedback else None


def assessment_of(info: TraceInfo) -> Assessment | None:
    """Our assessment among those of a trace: a person's, by this name."""
    human = AssessmentSourceType.HUMAN
    return next((one for one in info.assessments if one.name == FEEDBACK and one.source.source_type == human), None)


def assessment(person: str, feedback: Feedback) -> Assessment:
    return MlflowFeedback(
        name=FEEDBACK,
        value=feedback.good,
        rationale=feedback.comment,  # an update leaves a None as it was
        source=AssessmentSource(AssessmentSourceType.HUMAN, person),
    )


def _begun(record: TurnRecord) -> float:
    return min(record.turn.request.asked_at, record.ended) if record.turn.request else record.ended


def _finish(answer: Answer | None) -> str | None:
    if answer is None:
        return None
    return "error" if answer.error else answer.finish_reason


def _token_usage(usage: Usage) -> dict[str, int]:
    """As MLflow counts: https://mlflow.org/docs/latest/genai/tracing/token-usage-cost."""
    counts = {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    return counts if usage.cached_tokens is None else {**counts, "cache_read_input_tokens": usage.cached_tokens}


def _span(
    record: TurnRecord,
    name: str,
    kind: str,
    begun: float,
    ended: float,
    attributes: dict[str, Any],
    error: str,
    within: str | None = None,
) -> Span:
    """OpenTelemetry's ids are made of the turn's too: what is written twice is written over."""
    turn = record.turn.id
    own = {"mlflow.traceRequestId": trace_id_for(turn), "mlflow.spanType": kind}
    return Span.from_dict(
        {
            "trace_id": base64.b64encode(bytes.fromhex(turn)).decode(),
            "span_id": _span_id(turn, name),
            "parent_span_id": _span_id(turn, within) if within else None,
            "name": name,
            "start_time_unix_nano": int(begun * 1e9),
            "end_time_unix_nano": int(ended * 1e9),
            "events": [],
            "status": {"code": "STATUS_CODE_ERROR" if error else "STATUS_CODE_OK", "message": error},
            "attributes": {key: json.dumps(value, ensure_ascii=False) for key, value in {**own, **attributes}.items()},
        }
    )


def _span_id(turn: str, name: str) -> str:
    return base64.b64encode(hashlib.sha256(f"{turn} {name}".encode()).digest()[:8]).decode()
