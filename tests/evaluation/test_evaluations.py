"""Evaluations on scripted answers: requests, storage, scoring and resuming."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Feedback
from mlflow.genai.scorers import scorer as mlflow_scorer
from mlflow.tracking import fluent

from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.types import GenerationParams
from phi3_ui.errors import UserError
from phi3_ui.evaluation import evaluations, scoring, work
from phi3_ui.evaluation.plan import Candidate, EvaluationPlan, JudgePlan, plan_evaluation
from phi3_ui.evaluation.prompt_set import PromptRecord, PromptSet
from phi3_ui.evaluation.scorers import Score, Scorer, score_answer
from phi3_ui.paths import ROOT
from phi3_ui.store.conversations.trace_reader import parse_summary
from phi3_ui.store.conversations.trace_search import TraceSearch
from tests.support.evaluating import Bench, TableModel, make_record, open_bench

_RECORDS = (
    make_record("France?", expected_response="Paris"),
    make_record("Italy?", expected_response="Rome"),
    make_record("Spain?", expected_response="Madrid"),
    make_record("Say anything."),
)
_REFUSED = UserError("refused", model="b", detail="no")


def _plan(*names: str, records: tuple[PromptRecord, ...] = _RECORDS, **options: object) -> EvaluationPlan:
    options = {"scorers": ("exact_match", "similarity"), **options}
    candidates = tuple(Candidate(f"{name}/1", name) for name in names)
    return plan_evaluation(PromptSet("", "capitals", 0, records), candidates, **options)


@pytest.fixture
def good() -> TableModel:
    return TableModel({"France?": "Paris", "Italy?": "Rome", "Spain?": "Madrid, I think"})


@pytest.fixture
def bench(tmp_path: Path, good: TableModel) -> Bench:
    bad = TableModel({"France?": "Paris", "Italy?": _REFUSED, "Spain?": "Lisbon"})
    return open_bench(tmp_path, {"good/1": good, "bad/1": bad, "code/1": TableModel()}, untrusted=["code/1"])


def test_metrics_in_mlflow_equal_those_computed_by_hand(bench: Bench) -> None:
    running = bench.evaluations.start(_plan("good", "bad"), _RECORDS)
    assert running.wait(60)

    client = MlflowClient(bench.location.tracking_uri)
    assert (running.progress.done, running.progress.total, running.progress.error) == (8, 8, None)
    for run_id, expected, failures in zip(running.run_ids, ([1, 1, 0], [1, 0, 0]), (0, 1), strict=True):
        run = client.get_run(run_id)
        traces = client.search_traces(locations=[bench.location.experiment_id], run_id=run_id)
        scores = {
            trace.info.request_preview: [
                assessment.feedback.value for assessment in trace.info.assessments if assessment.name == "exact_match"
            ]
            for trace in traces
        }
        metrics = run.data.metrics
        assert run.info.status == "FINISHED"
        assert [*map(scores.get, ("France?", "Italy?", "Spain?", "Say anything."))] == [
            *([score] for score in expected),
            [],
        ]
        assert metrics["exact_match"] == metrics["exact_match/mean"] == fmean(expected)
        assert metrics["exact_match/low"] <= metrics["exact_match"] <= metrics["exact_match/high"]
        assert (metrics["answers"], metrics["failures"]) == (4 - failures, failures)
        seconds = [
            float(value) for trace in traces if (value := trace.info.trace_metadata.get("phi3_ui.metrics.seconds"))
        ]
        assert metrics["mean_seconds"] == pytest.approx(fmean(seconds))
        assert [run.name for run in bench.evaluations.list_evaluations()[0].runs] == ["good", "bad"]
    assert client.get_run(running.run_ids[0]).data.metrics["similarity"] == pytest.approx((1 + 1 + 0) / 3)


def test_a_run_contains_its_report_answers_and_prompt_set(bench: Bench, tmp_path: Path) -> None:
    hostile = (make_record("<script>alert(1)</script>", expected_response="x"), *_RECORDS)
    running = bench.evaluations.start(_plan("good", records=hostile), hostile)
    assert running.wait(60)

    client, run_id = MlflowClient(bench.location.tracking_uri), running.run_ids[0]
    report = Path(client.download_artifacts(run_id, "report.html", str(tmp_path))).read_text("utf-8")
    table = json.loads(Path(client.download_artifacts(run_id, "answers.json", str(tmp_path))).read_text("utf-8"))
    inputs = client.get_run(run_id).inputs
    assert inputs
    (dataset_input,) = inputs.dataset_inputs
    assert "<svg" in report
    assert "svg { max-width: 100%" in report, "charts fit a phone's screen"
    assert "&lt;script&gt;" in report
    assert not any(mark in report for mark in ("<script", "http:", "https:", "src="))
    assert [row[table["columns"].index("question")] for row in table["data"]] == [record.question for record in hostile]
    assert (dataset_input.dataset.name, dataset_input.dataset.digest) == (
        "capitals",
        _plan("good", records=hostile).set_digest[:32],
    )


def test_the_active_experiment_of_the_embedding_program_does_not_matter(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fluent, "_active_experiment_id", "12345")
    running = bench.evaluations.start(_plan("good"), _RECORDS)
    assert running.wait(60)

    assert running.progress.error is None
    assert fluent._active_experiment_id == "12345"


def test_evaluations_do_not_appear_as_chats(bench: Bench) -> None:
    running = bench.evaluations.start(_plan("good"), _RECORDS)
    assert running.wait(60)

    location = bench.location
    traces = MlflowClient(location.tracking_uri).search_traces(locations=[location.experiment_id])
    assert len(traces) == len(_RECORDS)
    assert [parse_summary(trace.info) for trace in traces] == [None] * len(_RECORDS)
    assert list(TraceSearch(lambda: location).iterate_infos("")) == []


def test_a_cancelled_evaluation_is_resumed_where_it_stopped(bench: Bench, good: TableModel) -> None:
    plan = _plan("good", "bad")
    started = threading.Event()

    def cancel_at_the_third(_: object) -> None:
        if len(good.requests) == 3:
            assert started.wait(60)
            running.cancel()

    good.on_request = cancel_at_the_third
    running = bench.evaluations.start(plan, _RECORDS)
    started.set()
    assert running.wait(60)
    client = MlflowClient(bench.location.tracking_uri)
    assert (running.progress.done, running.progress.is_cancelled) == (2, True)
    assert [client.get_run(run_id).info.status for run_id in running.run_ids] == ["KILLED", "KILLED"]

    good.on_request = lambda _: None
    resumed = bench.evaluations.resume(running.id)
    assert resumed.wait(60)

    assert resumed.run_ids == running.run_ids
    assert (resumed.progress.done, resumed.progress.error) == (8, None)
    assert Counter(good.questions) == {"France?": 1, "Italy?": 1, "Spain?": 2, "Say anything.": 1}  # one was cancelled
    assert bench.evaluations.list_evaluations()[0].is_finished


def test_another_process_sees_that_an_evaluation_is_running(bench: Bench, good: TableModel, tmp_path: Path) -> None:
    other, observed = open_bench(tmp_path, {"good/1": TableModel()}), set[tuple[bool, bool]]()

    def observe(_: object) -> None:
        (own,), (others,) = bench.evaluations.list_evaluations(), other.evaluations.list_evaluations()
        observed.add((own.runs_elsewhere, others.runs_elsewhere))

    good.on_request = observe
    running = bench.evaluations.start(_plan("good"), _RECORDS)
    assert running.wait(60)

    assert observed == {(False, True)}
    assert not other.evaluations.list_evaluations()[0].runs_elsewhere


def test_each_repeat_has_its_own_seed(bench: Bench, good: TableModel) -> None:
    running = bench.evaluations.start(_plan("good", repeats=3, seed=7), _RECORDS[:1])
    assert running.wait(60)

    assert [request.params.seed for request in good.requests] == [7, 8, 9]
    assert len(bench.evaluations.load_answers(running.run_ids[0])) == 3


def test_an_invalid_plan_is_refused_before_any_request(bench: Bench) -> None:
    start = bench.evaluations.start
    with pytest.raises(UserError, match="would run code that comes with it"):
        start(_plan("good", "code"), _RECORDS)
    with pytest.raises(UserError, match="no longer in the tracking store"):
        start(_plan("none"), _RECORDS)
    with pytest.raises(UserError, match="contains no questions"):
        start(_plan("good"), ())
    unsupported = plan_evaluation(PromptSet("", "x", 0, ()), (Candidate("good/1", "g", GenerationParams(top_k=1)),))
    with pytest.raises(UserError, match="does not support --top-k"):
        start(unsupported, _RECORDS)
    with pytest.raises(UserError, match="no evaluation"):
        bench.evaluations.resume("0" * 32)
    assert bench.evaluations.list_evaluations() == []


def test_a_model_that_does_not_load_fails_the_evaluation_and_keeps_the_answers(bench: Bench, good: TableModel) -> None:
    good.answers["Spain?"] = UserError("load_failed", model="good", detail="no", log="none")
    running = bench.evaluations.start(_plan("good"), _RECORDS)
    assert running.wait(60)
    assert running.progress.error is not None
    assert running.progress.error.code == "load_failed"

    good.answers["Spain?"] = "Madrid"
    resumed = bench.evaluations.resume(running.id)
    assert resumed.wait(60)
    assert resumed.progress.error is None
    assert Counter(good.questions)["France?"] == 1


def test_an_evaluation_waits_for_a_busy_pool(bench: Bench, good: TableModel) -> None:
    phases, started = list[str](), threading.Event()

    def fail_once_as_busy(_: object) -> None:
        assert started.wait(60)
        if len(good.requests) == 1:
            raise UserError("too_many_models", count=1)
        phases.append(running.progress.phase)

    good.on_request = fail_once_as_busy
    running = bench.evaluations.start(_plan("good"), _RECORDS[:1])
    started.set()
    assert running.wait(60)
    assert (phases, running.progress.done) == (["waiting"], 1)


def test_a_judge_of_the_store_scores_every_answer(tmp_path: Path, good: TableModel) -> None:
    judge = TableModel()

    def decide(request: object) -> None:
        text = judge.questions[-1]
        judge.answers[text] = "Yes, it is right." if "Rome" in text.split("<answer>")[1] else "No. It is wrong."

    judge.on_request = decide
    bench = open_bench(tmp_path, {"good/1": good, "judge/1": judge})
    plan = _plan("good", scorers=(), judge=JudgePlan("judge/1", criterion="It is a capital."))
    running = bench.evaluations.start(plan, _RECORDS)
    assert running.wait(60)

    answers = bench.evaluations.load_answers(running.run_ids[0])
    assert [answer.scores for answer in answers] == [{"judge": 0.0}, {"judge": 1.0}, {"judge": 0.0}, {"judge": 0.0}]
    assert answers[1].rationales == {"judge": "Yes, it is right."}
    assert "Criterion: It is a capital." in judge.questions[0]


def test_custom_scorers_are_loaded_from_a_file(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from mlflow.genai.scorers import scorer\n"
        "def is_short(outputs):\n    return len(outputs) < 6\n"
        "@scorer\ndef matches(outputs, expectations):\n    return outputs == expectations.get('expected_response')\n",
        encoding="utf-8",
    )
    plan = _plan("good", scorers=(), own_scorers=(f"{file}:is_short", str(file)))
    running = bench.evaluations.start(plan, _RECORDS)
    assert running.wait(60)

    answers = bench.evaluations.load_answers(running.run_ids[0])
    assert [answer.scores for answer in answers] == [
        {"is_short": 1.0, "matches": 1.0},
        {"is_short": 1.0, "matches": 1.0},
        {"is_short": 0.0, "matches": 0.0},
        {"is_short": 0.0, "matches": 0.0},
    ]
    for text, sentence in ((f"{file}:none", "no scorer"), ("none.py", "no scorer"), ("entry", "no scorer")):
        with pytest.raises(UserError, match=sentence):
            bench.evaluations.start(_plan("good", own_scorers=(text,)), _RECORDS)
    file.write_text("1 / 0", encoding="utf-8")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        bench.evaluations.start(_plan("good", own_scorers=(str(file),)), _RECORDS)


def test_partly_scored_answers_get_each_score_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state after a kill between two scores of an answer."""
    original = scoring.score_traces

    def score_and_die(*arguments: object) -> None:
        original(*arguments)  # type: ignore[arg-type]
        client = MlflowClient(bench.location.tracking_uri)
        trace = client.search_traces(locations=[bench.location.experiment_id], max_results=1)[0]
        assessment = next(assessment for assessment in trace.info.assessments if assessment.feedback)
        client._tracing_client.delete_assessment(trace.info.trace_id, assessment.assessment_id)
        raise UserError("store_unreachable", uri="x", detail="killed")

    monkeypatch.setattr(scoring, "score_traces", score_and_die)
    running = bench.evaluations.start(_plan("good"), _RECORDS)
    assert running.wait(60)
    monkeypatch.undo()
    resumed = bench.evaluations.resume(running.id)
    assert resumed.wait(60)

    client = MlflowClient(bench.location.tracking_uri)
    for trace in client.search_traces(locations=[bench.location.experiment_id]):
        names = [assessment.name for assessment in trace.info.assessments if assessment.feedback]
        assert len(names) == len(set(names))
    assert client.get_run(running.run_ids[0]).data.metrics["exact_match/mean"] == pytest.approx(2 / 3)


def test_scorers_that_give_no_or_several_scores_are_called_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[str]()

    def give_nothing(outputs: str) -> None:
        calls.append(f"nothing: {outputs}")

    def give_two(outputs: str) -> list[Feedback]:
        calls.append(f"two: {outputs}")
        return [Feedback(name="first", value=True), Feedback(name="second", value=0.5)]

    scorers_by_name = {"nothing": mlflow_scorer(give_nothing), "two": mlflow_scorer(give_two)}
    for module in (evaluations, work):
        monkeypatch.setattr(module, "load_own_scorer", lambda text: [scorers_by_name[text]])
    original = scoring.score_traces

    def score_and_die(*arguments: object) -> None:
        original(*arguments)  # type: ignore[arg-type]
        raise UserError("store_unreachable", uri="x", detail="killed")

    monkeypatch.setattr(scoring, "score_traces", score_and_die)
    running = bench.evaluations.start(_plan("good", scorers=(), own_scorers=("nothing", "two")), _RECORDS)
    assert running.wait(60)
    assert len(calls) == 2 * len(_RECORDS)
    monkeypatch.setattr(scoring, "score_traces", original)
    resumed = bench.evaluations.resume(running.id)
    assert resumed.wait(60)

    assert len(calls) == 2 * len(_RECORDS)
    answers = bench.evaluations.load_answers(running.run_ids[0])
    assert [answer.scores for answer in answers] == [{"first": 1.0, "second": 0.5}] * len(_RECORDS)


def test_scoring_is_cancelled_between_two_calls_and_resumed_where_it_stopped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_GENAI_EVAL_MAX_WORKERS", "1")
    monkeypatch.setenv("MLFLOW_GENAI_EVAL_MAX_SCORER_WORKERS", "1")
    original, calls, started = score_answer, list[tuple[str, str]](), threading.Event()

    def cancel_at_the_fourth(scorer: Scorer, answer: Answer, expectations: Mapping[str, Any]) -> Score:
        calls.append((scorer.name, answer.text))
        if len(calls) == 4:
            assert started.wait(60)
            running.cancel()
        return original(scorer, answer, expectations)

    monkeypatch.setattr(scoring, "score_answer", cancel_at_the_fourth)
    running = bench.evaluations.start(_plan("good", scorers=("length=..1", "similarity", "contains=a")), _RECORDS[:3])
    started.set()
    assert running.wait(60)
    assert len(calls) == 4
    assert bench.evaluations.list_evaluations()[0].runs[0].status == "KILLED"

    resumed = bench.evaluations.resume(running.id)
    assert resumed.wait(60)
    assert sorted(Counter(calls).values()) == [1] * 9
    metrics = bench.evaluations.list_evaluations()[0].runs[0].metrics
    assert [metrics[name] for name in ("length/mean", "contains/mean")] == pytest.approx([2 / 3, 2 / 3])


_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.evaluation.test_evaluations import _RECORDS, _plan
from tests.support.evaluating import TableModel, open_bench

model = TableModel()
model.on_request = lambda _: os.kill(os.getpid(), signal.SIGKILL) if len(model.requests) == 3 else None
bench = open_bench(Path(sys.argv[1]), {"good/1": model})
bench.evaluations.start(_plan("good"), _RECORDS).wait()
"""


@pytest.mark.server
def test_answered_requests_are_not_repeated_after_sigkill(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], cwd=ROOT, env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL

    model = TableModel()
    bench = open_bench(tmp_path, {"good/1": model})
    (evaluation,) = bench.evaluations.list_evaluations()
    assert [run.status for run in evaluation.runs] == ["RUNNING"]
    running = bench.evaluations.resume(evaluation.id)
    with pytest.raises(UserError, match="already running"):
        bench.evaluations.resume(evaluation.id)
    assert running.wait(60)

    assert model.questions == ["Spain?", "Say anything."]
    assert [answer.answer.text for answer in bench.evaluations.load_answers(running.run_ids[0])] == [
        record.question for record in _RECORDS
    ]
    assert bench.evaluations.list_evaluations()[0].is_finished
