"""Scores the answers of a run with `mlflow.genai.evaluate`, over the traces that are there: no model under test is asked again.

Nothing leaves the machine but what a configured judge is asked. MLflow's function uses the process's tracking store and active run,
so it has a lock around it here, and the store that was set before is set again.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow.entities import AssessmentError, AssessmentSource, AssessmentSourceType, Feedback, Trace
from mlflow.tracking import fluent
from mlflow.tracking._tracking_service.utils import _use_tracking_uri

from phi3_ui.evaluation.answer_rows import EvaluatedAnswer
from phi3_ui.evaluation.answer_traces import is_scored, note_scored
from phi3_ui.evaluation.judge import JUDGE_NAME, Judge
from phi3_ui.evaluation.scorers import Scorer, ScoringError, score_answer
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.traces import SESSION_KEY

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.genai.scorers import Scorer as MlflowScorer

_LOCK = threading.Lock()
_STORE_VARIABLE = "MLFLOW_TRACKING_URI"
_IDENTITY = "mlflow.genaiEvaluate.datasetIdentity"
_CODE = AssessmentSourceType.CODE
_BATCH = 50  # answers; what MLflow does for each, without any scorer, cannot be cancelled

Answers = Mapping[str, EvaluatedAnswer]
"""The answers to be scored, by trace id."""


def score_traces(  # noqa: PLR0913  # what a run is made of
    location: ChatLocation,
    run_id: str,
    model_id: str | None,
    dataset: Mapping[str, str],
    traces: Sequence[Trace],
    answers: Answers,
    scorers: Sequence["MlflowScorer"],
    is_cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Log a score of each scorer on each trace that has none of it, and MLflow's own means in the run.

    Args:
        location: Where run and traces are.
        run_id: The run, which is linked to the traces and to the model.
        model_id: Of the logged model; None if it is none.
        dataset: `name`, `digest`, `source_type` and `source` of the prompt set's version.
        traces: The answers; at least one.
        answers: The same, parsed.
        scorers: At least one.
        is_cancelled: Once it is true, no scorer is called any more.
    """
    import mlflow.genai

    once = [_call_once(one, location, is_cancelled) for one in scorers]
    size = len(traces) if any(one.is_session_level_scorer for one in scorers) else _BATCH
    for start in range(0, len(traces), size):
        if is_cancelled():
            return
        frame = _build_frame(dataset, traces[start : start + size], answers)
        with use_store(location), mlflow.start_run(run_id=run_id):
            mlflow.genai.evaluate(data=frame, scorers=once, model_id=model_id)


def _build_frame(dataset: Mapping[str, str], traces: Sequence[Trace], answers: Answers) -> "pd.DataFrame":
    """The answers as `mlflow.genai.evaluate` takes them: a row each."""
    import pandas as pd
    from mlflow.genai.datasets.evaluation_dataset import compute_records_sha256

    rows = [answers[trace.info.trace_id] for trace in traces]
    frame = pd.DataFrame(
        {
            "trace": list(traces),
            "inputs": [one.record.inputs for one in rows],
            "outputs": [one.answer.text for one in rows],
            "expectations": [dict(one.record.expectations) for one in rows],
        }
    )
    frame.attrs[_IDENTITY] = {**dataset, "records_sha256": compute_records_sha256(frame)}
    return frame


def list_unscored(traces: Sequence[Trace], scorers: Sequence["MlflowScorer"]) -> list[Trace]:
    """The answers that lack a score. A scorer of sessions needs all turns of one, and gives its scores to one of them."""
    of_turns = [one.name for one in scorers if not one.is_session_level_scorer]
    of_sessions = [one.name for one in scorers if one.is_session_level_scorer]
    sessions = dict[str, list[Trace]]()
    for trace in traces:
        session_id = trace.info.trace_metadata.get(SESSION_KEY) if of_sessions else None
        sessions.setdefault(session_id or trace.info.trace_id, []).append(trace)
    return [
        trace
        for turns in sessions.values()
        for trace in turns
        if not all(is_scored(turn, name) for turn in turns for name in of_turns)
        or not all(any(is_scored(turn, name) for turn in turns) for name in of_sessions)
    ]


def _call_once(one: "MlflowScorer", location: ChatLocation, is_cancelled: Callable[[], bool]) -> "MlflowScorer":
    """The scorer, called neither for an answer or a session that has its score nor after the evaluation was cancelled.

    Not by an exception: MLflow would take it for a score, or leave a thread that waits for ever.
    """

    def call(turns: Sequence[Trace], given: Mapping[str, Any]) -> list[Feedback] | None:
        if is_cancelled() or any(is_scored(turn, one.name) for turn in turns):
            return None
        scores = standardize_scorer_value(one.name, one.run(**given))
        if {score.name for score in scores} != {one.name}:
            note_scored(location, turns[0].info.trace_id, one.name, {str(score.name) for score in scores})
        return scores

    def score_session(session: Any) -> list[Feedback] | None:
        return call(session, {"session": session})

    def score_turn(inputs: Any, outputs: Any, expectations: Any, trace: Trace) -> list[Feedback] | None:
        return call([trace], {"inputs": inputs, "outputs": outputs, "expectations": expectations, "trace": trace})

    from mlflow.genai.evaluation.utils import standardize_scorer_value

    score = score_session if one.is_session_level_scorer else score_turn
    return _as_mlflow_scorer(one.name, score, one.aggregations)


def wrap_scorer(one: Scorer, answers: Answers) -> "MlflowScorer":
    """A built-in scorer as one of MLflow's."""

    def score(trace: Trace) -> Feedback | None:
        answer = answers[trace.info.trace_id]
        source = AssessmentSource(_CODE, one.spec)
        try:
            value = score_answer(one, answer.answer, answer.record.expectations)
        except ScoringError as error:
            return _failed(one.name, source, error)
        return None if value is None else Feedback(name=one.name, value=value, source=source)

    return _as_mlflow_scorer(one.name, score)


def wrap_judge(judge: Judge, answers: Answers) -> "MlflowScorer":
    """A judge as one of MLflow's scorers. It is not asked about failed answers, which are wrong."""
    source = AssessmentSource(AssessmentSourceType.LLM_JUDGE, judge.name)

    def score(trace: Trace) -> Feedback:
        answer = answers[trace.info.trace_id]
        if answer.answer.error:
            return Feedback(name=JUDGE_NAME, value=False, source=source)
        try:
            verdict = judge.judge(answer.record, answer.answer.text)
        except ScoringError as error:
            return _failed(JUDGE_NAME, source, error)
        return Feedback(name=JUDGE_NAME, value=verdict.is_good, rationale=verdict.reason, source=source)

    return _as_mlflow_scorer(JUDGE_NAME, score)


def _failed(name: str, source: AssessmentSource, error: ScoringError) -> Feedback:
    return Feedback(name=name, source=source, error=AssessmentError("SCORER_ERROR", str(error)))


def _as_mlflow_scorer(name: str, score: Any, aggregations: Any = None) -> "MlflowScorer":
    from mlflow.genai.scorers import scorer  # takes half a second, which no page and no other command has to wait

    made: MlflowScorer = scorer(score, name=name, aggregations=aggregations)
    return made


@contextmanager
def use_store(location: ChatLocation) -> Iterator[None]:
    """Within the block, its store and experiment are those of the process, which one thread at a time may set.

    The experiment too: MLflow starts no run of another one than the process has set, as a program that mounts the app may do.
    """
    with _LOCK:
        before = os.environ.get(_STORE_VARIABLE)  # which MLflow overwrites, and removes at the end
        experiment: Any = fluent._active_experiment_id
        fluent._active_experiment_id = location.experiment_id  # type: ignore[assignment]  # None at first
        try:
            with _use_tracking_uri(location.tracking_uri), _without_display():
                yield
        finally:
            fluent._active_experiment_id = experiment
            os.environ.pop(_STORE_VARIABLE, None)
            if before is not None:
                os.environ[_STORE_VARIABLE] = before


@contextmanager
def _without_display() -> Iterator[None]:
    """No progress bar and no advertisement on the standard streams, which belong to the command line or to the server's log."""
    from mlflow.genai.evaluation import base, harness
    from mlflow.genai.simulators import simulator

    shown = [(module.__dict__, name) for module, name in ((harness, "tqdm"), (simulator, "tqdm"))]
    shown.append((base.__dict__, "display_evaluation_output"))
    before = [names[name] for names, name in shown]
    for names, name in shown:
        names[name] = None if name == "tqdm" else lambda *_: None
    try:
        yield
    finally:
        for (names, name), value in zip(shown, before, strict=True):
            names[name] = value
