"""Convert the answers of evaluations to MLflow traces, and back.

The traces look like those of chats, but belong to a run instead of a user and a chat. They lack the metadata from which the chat
list, the usage overview and the ratings are read, so they appear in none of them. Trace ids are derived from the run, the request
and the repeat: an answer that is written twice is one trace, and a run that was killed finds the answers it already has.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Assessment, AssessmentSource, AssessmentSourceType, Trace
from mlflow.entities import Expectation as MlflowExpectation
from mlflow.tracing.client import TracingClient

from phi3_ui import __version__
from phi3_ui.chat.conversation import Answer, Turn, TurnRequest
from phi3_ui.chat.turn_json import parse_turn
from phi3_ui.chat.types import GenerationParams
from phi3_ui.evaluation.answer_rows import EvaluatedAnswer
from phi3_ui.evaluation.prompt_set import PromptRecord, parse_messages
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.operations import TurnRecord
from phi3_ui.store.conversations.traces import (
    PARENT_KEY,
    SESSION_KEY,
    TURN_ATTRIBUTE,
    TURN_KEY,
    USER_KEY,
    build_spans,
    build_trace_info,
    trace_id_for,
)
from phi3_ui.store.query import metadata_filter, paginate

RUN_KEY, RECORD_KEY, REPEAT_KEY = "phi3_ui.evaluation_run", "phi3_ui.record", "phi3_ui.repeat"
_SOURCE_RUN_KEY = "mlflow.sourceRun"
_SCORED_TAG = "phi3_ui.scored"
_CHAT_KEYS = (SESSION_KEY, USER_KEY, TURN_KEY, PARENT_KEY)
_PAGE_SIZE = 500
_CODE = AssessmentSource(AssessmentSourceType.CODE, "prompt_set")


@dataclass(frozen=True)
class AnsweredRequest:
    """One request of a run, with its answer."""

    run_id: str
    key: str
    """Key of the request within its set or conversation."""
    record: PromptRecord
    """The request as it was sent."""
    repeat: int
    model_id: str
    params: GenerationParams
    asked_at: float
    """Seconds since 1970, UTC."""
    ended_at: float
    answer: Answer
    session_id: str = ""
    """Session evaluations only: joins the turns of one conversation."""

    @property
    def id(self) -> str:
        """The id of its trace without the prefix: 32 hexadecimal digits."""
        return _derive_id(self.run_id, self.key, self.repeat)


def get_trace_id(run_id: str, key: str, repeat: int) -> str:
    """Return the trace id of one answer of a run."""
    return trace_id_for(_derive_id(run_id, key, repeat))


def write_answer(location: ChatLocation, answered: AnsweredRequest) -> None:
    """Write an answer as a trace that belongs to its run, with its expectations. Idempotent."""
    request = TurnRequest(answered.asked_at, answered.model_id, params=answered.params)
    turn = Turn(answered.record.question, answered.answer, answered.id, request=request)
    record = TurnRecord("", "", turn, answered.answer.model, answered.ended_at, __version__, answered.record.messages)
    info = build_trace_info(record, location.experiment_id)
    metadata = {key: value for key, value in info.trace_metadata.items() if key not in _CHAT_KEYS}
    info.trace_metadata = metadata | {
        RUN_KEY: answered.run_id,
        _SOURCE_RUN_KEY: answered.run_id,
        RECORD_KEY: answered.key,
        REPEAT_KEY: str(answered.repeat),
        **({SESSION_KEY: answered.session_id} if answered.session_id else {}),
    }
    info.tags = {"mlflow.traceName": "evaluation"}
    info.assessments = [
        MlflowExpectation(name=name, value=value, source=_CODE, trace_id=info.trace_id)
        for name, value in answered.record.expectations.items()
    ]
    client = TracingClient(location.tracking_uri)
    client.start_trace(info)
    client.log_spans(location.experiment_id, build_spans(record))


def list_answered(location: ChatLocation, run_id: str) -> set[tuple[str, int]]:
    """Return the record key and repeat of each answer that a run has."""
    return {
        (trace.info.trace_metadata[RECORD_KEY], int(trace.info.trace_metadata[REPEAT_KEY]))
        for trace in _search(location, run_id, include_spans=False)
    }


def load_traces(location: ChatLocation, run_id: str) -> list[Trace]:
    """The traces of a run's answers, in the order of their requests."""
    return sorted(_search(location, run_id, include_spans=True), key=lambda trace: int(trace.info.request_time))


def parse_answer(trace: Trace) -> EvaluatedAnswer:
    """Return the answer in a trace of an evaluation, with its scores. Raises ValueError if there is none."""
    root = next((span for span in trace.data.spans if TURN_ATTRIBUTE in span.attributes), None)
    turn = parse_turn(json.dumps(root.attributes[TURN_ATTRIBUTE])) if root else None
    if root is None or turn is None or turn.answer is None:
        raise ValueError(f"trace {trace.info.trace_id} contains no answer")
    expectations = {one.name: one.expectation.value for one in _list_assessments(trace) if one.expectation}
    record = PromptRecord(parse_messages((root.inputs or {}).get("messages")), expectations)
    scores, rationales = parse_scores(trace)
    key, repeat = trace.info.trace_metadata[RECORD_KEY], int(trace.info.trace_metadata[REPEAT_KEY])
    return EvaluatedAnswer(key, record, repeat, turn.answer, trace.info.trace_id, scores, rationales)


def parse_scores(trace: Trace) -> tuple[dict[str, float], dict[str, str]]:
    """Return the scores of an answer and their rationales, by scorer, without human feedback."""
    scores, rationales = dict[str, float](), dict[str, str]()
    for one in list_scores(trace):
        if (value := _parse_score(one)) is not None:
            scores[one.name] = value
        if rationale := one.rationale or (one.error.error_message if one.error else None):
            rationales[one.name] = str(rationale)
    return scores, rationales


def list_scores(trace: Trace) -> list[Assessment]:
    """Return the assessments by scorers."""
    return [
        one
        for one in _list_assessments(trace)
        if one.feedback and one.source and one.source.source_type != AssessmentSourceType.HUMAN
    ]


def mark_scored(location: ChatLocation, trace_id: str, scorer: str, names: Collection[str]) -> None:
    """Record that a scorer gave an answer scores under these names, perhaps none; by default, one under its own name is assumed."""
    TracingClient(location.tracking_uri).set_trace_tag(trace_id, _get_scored_tag(scorer), json.dumps(sorted(names)))


def is_scored(trace: Trace, scorer: str) -> bool:
    """Whether an answer has all the scores that a scorer gives it."""
    given = {one.name for one in list_scores(trace)}
    noted = trace.info.tags.get(_get_scored_tag(scorer))
    return scorer in given if noted is None else given.issuperset(json.loads(noted))


def with_expectations(answer: EvaluatedAnswer, records: Mapping[str, PromptRecord]) -> EvaluatedAnswer:
    """Return the answer with the expectations of its record in the set; `records` are given by their keys."""
    if (known := records.get(answer.key)) is None:
        return answer
    return replace(answer, record=replace(answer.record, expectations=known.expectations))


def delete_scores(location: ChatLocation, traces: Collection[Trace], keep: Collection[str]) -> None:
    """Delete the scores of these answers, except those named in `keep` and the other scores of these scorers that are complete."""
    client = TracingClient(location.tracking_uri)
    for trace in traces:
        noted = [trace.info.tags.get(_get_scored_tag(name)) for name in keep if is_scored(trace, name)]
        kept = {*keep, *(name for text in noted if text for name in json.loads(text))}
        for one in list_scores(trace):
            if one.name in kept:
                continue
            client.delete_assessment(trace.info.trace_id, str(one.assessment_id))


def _derive_id(run_id: str, key: str, repeat: int) -> str:
    return hashlib.sha256(f"{run_id} {key} {repeat}".encode()).hexdigest()[:32]


def _get_scored_tag(scorer: str) -> str:
    # Hashed, because the names of scorers may contain more characters than the names of tags allow.
    return f"{_SCORED_TAG}.{hashlib.sha256(scorer.encode()).hexdigest()[:16]}"


def _search(location: ChatLocation, run_id: str, include_spans: bool) -> Iterator[Trace]:
    found: Iterator[Trace] = paginate(
        MlflowClient(location.tracking_uri).search_traces,
        locations=[location.experiment_id],
        filter_string=metadata_filter({RUN_KEY: run_id}),
        max_results=_PAGE_SIZE,
        include_spans=include_spans,
    )
    return found


def _list_assessments(trace: Trace) -> list[Assessment]:
    return [one for one in trace.info.assessments or () if one.valid is not False]


def _parse_score(assessment: Assessment) -> float | None:
    value: Any = assessment.feedback.value if assessment.feedback else None
    if isinstance(value, str):
        value = {"yes": True, "no": False}.get(value.strip().lower())
    return float(value) if isinstance(value, (bool, int, float)) else None
