"""Score the answers of a run with `mlflow.genai.evaluate` on the existing traces, without asking the model under test again.

Nothing leaves the machine except the prompts for a configured judge. MLflow's function uses the process's tracking store and active
run, so it is called under a lock here, and the previous store is restored afterwards.
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
from phi3_ui.evaluation.answer_traces import is_scored, mark_scored
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
_BATCH = 50  # answers; MLflow's own work on each answer, besides the scorers, cannot be cancelled

Answers = Mapping[str, EvaluatedAnswer]
"""The answers to score, by trace id."""


def score_traces(  # noqa: PLR0913  # the parts of a run
    location: ChatLocation,
    run_id: str,
    model_id: str | None,
    dataset: Mapping[str, str],
    traces: Sequence[Trace],
    answers: Answers,
    scorers: Sequence["MlflowScorer"],
    is_cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Log a score of each scorer on each trace that lacks it, and MLflow's own means in the run.

    Args:
        location: The location of run and traces.
        run_id: The run, which is linked to traces and model.
        model_id: The id of the logged model; None for other models.
        dataset: `name`, `digest`, `source_type` and `source` of the prompt set version.
        traces: The answers; at least one.
        answers: The same answers, parsed.
        scorers: At least one.
        is_cancelled: Once it returns True, no further scorer is called.
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
    """Return the answers in the form that `mlflow.genai.evaluate` expects, one row each."""
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
    """Return the answers that lack a score. A session-level scorer needs all turns of a session and scores one of them."""
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
    """Wrap a scorer so that it skips answers and sessions that it has scored already, and does nothing after a cancellation.

    It does not raise to cancel: MLflow would log the exception as a score, or leave a thread waiting forever.
    """

    def call(turns: Sequence[Trace], given: Mapping[str, Any]) -> list[Feedback] | None:
        if is_cancelled() or any(is_scored(turn, one.name) for turn in turns):
            return None
        scores = standardize_scorer_value(one.name, one.run(**given))
        if {score.name for score in scores} != {one.name}:
            mark_scored(location, turns[0].info.trace_id, one.name, {str(score.name) for score in scores})
        return scores

    def score_session(session: Any) -> list[Feedback] | None:
        return call(session, {"session": session})

    def score_turn(inputs: Any, outputs: Any, expectations: Any, trace: Trace) -> list[Feedback] | None:
        return call([trace], {"inputs": inputs, "outputs": outputs, "expectations": expectations, "trace": trace})

    from mlflow.genai.evaluation.utils import standardize_scorer_value

    score = score_session if one.is_session_level_scorer else score_turn
    return _as_mlflow_scorer(one.name, score, one.aggregations)


def wrap_scorer(one: Scorer, answers: Answers) -> "MlflowScorer":
    """Wrap a built-in scorer as an MLflow scorer."""

    def score(trace: Trace) -> Feedback | None:
        answer = answers[trace.info.trace_id]
        source = AssessmentSource(_CODE, one.spec)
        try:
            value = score_answer(one, answer.answer, answer.record.expectations)
        except ScoringError as error:
            return _build_error(one.name, source, error)
        return None if value is None else Feedback(name=one.name, value=value, source=source)

    return _as_mlflow_scorer(one.name, score)


def wrap_judge(judge: Judge, answers: Answers) -> "MlflowScorer":
    """Wrap a judge as an MLflow scorer. Failed answers are wrong without asking the judge."""
    source = AssessmentSource(AssessmentSourceType.LLM_JUDGE, judge.name)

    def score(trace: Trace) -> Feedback:
        answer = answers[trace.info.trace_id]
        if answer.answer.error:
            return Feedback(name=JUDGE_NAME, value=False, source=source)
        try:
            verdict = judge.judge(answer.record, answer.answer.text)
        except ScoringError as error:
            return _build_error(JUDGE_NAME, source, error)
        return Feedback(name=JUDGE_NAME, value=verdict.is_good, rationale=verdict.reason, source=source)

    return _as_mlflow_scorer(JUDGE_NAME, score)


def _build_error(name: str, source: AssessmentSource, error: ScoringError) -> Feedback:
    return Feedback(name=name, source=source, error=AssessmentError("SCORER_ERROR", str(error)))


def _as_mlflow_scorer(name: str, score: Any, aggregations: Any = None) -> "MlflowScorer":
    from mlflow.genai.scorers import scorer  # takes half a second, which pages and other commands should not wait for

    wrapped: MlflowScorer = scorer(score, name=name, aggregations=aggregations)
    return wrapped


@contextmanager
def use_store(location: ChatLocation) -> Iterator[None]:
    """Make its store and experiment the process's own for the duration of the block; one thread at a time.

    The experiment too, because MLflow refuses to start a run outside the experiment that the process has set, as a program that
    mounts the app may have done.
    """
    with _LOCK:
        before = os.environ.get(_STORE_VARIABLE)  # MLflow overwrites it, and removes it at the end
        experiment: Any = fluent._active_experiment_id
        fluent._active_experiment_id = location.experiment_id  # type: ignore[assignment]  # None at first
        try:
            with _use_tracking_uri(location.tracking_uri), _suppress_display():
                yield
        finally:
            fluent._active_experiment_id = experiment
            os.environ.pop(_STORE_VARIABLE, None)
            if before is not None:
                os.environ[_STORE_VARIABLE] = before


@contextmanager
def _suppress_display() -> Iterator[None]:
    """Suppress MLflow's progress bars and banners on the standard streams, which the command line or the server's log uses."""
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
