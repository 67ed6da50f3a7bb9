"""Evaluations: started, resumed, cancelled and read. One runs at a time, its candidates one after another, so that times compare."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Trace

from models.model_ids import is_logged_model
from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.conversation import new_id
from phi3_ui.errors import UserError
from phi3_ui.evaluation import answer_traces, runs, scoring
from phi3_ui.evaluation.answer_rows import EvaluatedAnswer, build_table, summarize_answers
from phi3_ui.evaluation.answer_traces import AskedRequest
from phi3_ui.evaluation.asking import ask_patiently
from phi3_ui.evaluation.judge import JUDGE_NAME, Judge, judge_with_endpoint, judge_with_model
from phi3_ui.evaluation.own_scorers import load_own_scorer
from phi3_ui.evaluation.plan import MAX_REPEATS, EvaluationPlan
from phi3_ui.evaluation.prompt_set import PromptRecord, merge_duplicates
from phi3_ui.evaluation.report import render_report
from phi3_ui.evaluation.running import RunningEvaluation
from phi3_ui.evaluation.scorers import parse_scorers, require_expectations
from phi3_ui.prompts.templates import TEMPLATES
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.registry.cards import ModelEntry

if TYPE_CHECKING:
    from mlflow.genai.scorers import Scorer as MlflowScorer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelAccess:
    """How evaluations come by models: as every other question of the app does."""

    find: Callable[[str], ModelEntry]
    """The model with an id. UserError("model_gone")."""
    require: Callable[[ModelEntry], None]
    """UserError("model_not_trusted") for a model that may not be loaded."""
    get: Callable[[ModelEntry, str | None], ChatModel]
    """The model with a prompt template (None: its own), loaded if necessary."""


class Evaluations:
    """The evaluations of one store. Thread-safe. Methods raise UserError as translate_store_errors, and as they say."""

    def __init__(
        self, locate: Callable[[], ChatLocation], models: ModelAccess, locks: Path, judge_key: Callable[[], str]
    ) -> None:
        """Open them.

        Args:
            locate: As that of the recorder: runs and answers are kept where the chats are.
            models: The models.
            locks: A folder for lock files; who holds one is at work on that evaluation.
            judge_key: Returns the key for an external judge; empty: none.
        """
        self._locate = locate
        self._models = models
        self._locks = locks
        self._judge_key = judge_key
        self._turn = threading.Lock()  # held by the evaluation that is at work
        self._lock = threading.Lock()
        self._running = dict[str, RunningEvaluation]()

    def start(self, plan: EvaluationPlan, records: Sequence[PromptRecord]) -> RunningEvaluation:
        """Check a plan, create its runs, and start it in a thread of its own.

        Args:
            plan: What to evaluate.
            records: Those of the plan's prompt set.

        Raises:
            UserError: no_questions, model_gone, model_not_trusted, unsupported_option, bad_scorer, scorer_twice, scorer_without_expectation,
                own_scorer_missing, own_scorer_failed.
        """
        if not records:
            raise UserError("no_questions", file=plan.set_name)
        self.check(plan, records)
        plan = replace(plan, repeats=min(max(plan.repeats, 1), MAX_REPEATS))
        return self._launch(new_id(), plan, tuple(merge_duplicates(records)))

    def resume(self, evaluation_id: str) -> RunningEvaluation:
        """Continue an evaluation that was cancelled, failed or was killed; what was answered is not asked again.

        Raises:
            UserError: no_such_evaluation, evaluation_running, and those of `start`.
        """
        plan, records = self.load_plan(evaluation_id)
        self.check(plan, records)
        return self._launch(evaluation_id, plan, records)

    def load_plan(self, evaluation_id: str) -> tuple[EvaluationPlan, tuple[PromptRecord, ...]]:
        """What an evaluation asks, and the records of its prompt set. UserError: no_such_evaluation."""
        location = self._locate()
        with translate_store_errors(location.tracking_uri):
            return runs.load_plan(location, evaluation_id)

    def check(self, plan: EvaluationPlan, records: Sequence[PromptRecord]) -> None:
        """Raise what `start` would raise for a plan."""
        names = [scorer.name for scorer in parse_scorers(plan.scorers)]
        require_expectations(parse_scorers(plan.scorers), records)
        names += [one.name for text in plan.own_scorers for one in load_own_scorer(text)]
        names += [JUDGE_NAME] if plan.judge else []
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError("scorer_twice", name=twice)
        for candidate in plan.candidates:
            entry = self._models.find(candidate.model_id)
            for name in candidate.params.as_dict():
                if name not in entry.supported_params:
                    raise UserError("unsupported_option", model=entry.name, option=f"--{name.replace('_', '-')}")
            if entry.requires_template and not (candidate.template or entry.template):
                raise UserError("no_template", model=entry.name, detail=", ".join(TEMPLATES))
            self._models.require(entry)
        if plan.judge and not plan.judge.url:
            self._models.require(self._models.find(plan.judge.model))

    def list_evaluations(self) -> list[runs.Evaluation]:
        """All evaluations, the newest first."""
        location = self._locate()
        with translate_store_errors(location.tracking_uri):
            return runs.list_evaluations(location)

    def get_running(self, evaluation_id: str) -> RunningEvaluation | None:
        """The evaluation, if it was started or resumed here and has not ended."""
        with self._lock:
            return self._running.get(evaluation_id)

    def load_answers(self, run_id: str) -> list[EvaluatedAnswer]:
        """The answers of a run with their scores, as far as it is. Damaged traces are left out and logged."""
        location = self._locate()
        with translate_store_errors(location.tracking_uri):
            return parse_answers(answer_traces.load_traces(location, run_id))

    def _launch(self, evaluation_id: str, plan: EvaluationPlan, records: tuple[PromptRecord, ...]) -> RunningEvaluation:
        location = self._locate()
        self._locks.mkdir(parents=True, exist_ok=True)
        # The kernel releases the lock of a killed process.
        lock = FileLock(self._locks / f"{evaluation_id}.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError("evaluation_running") from error
        try:
            with translate_store_errors(location.tracking_uri):
                run_ids = runs.create_runs(location, evaluation_id, plan, records)
        except BaseException:
            lock.release()
            raise
        total = len(records) * plan.repeats * len(plan.candidates)
        running = RunningEvaluation(evaluation_id, tuple(run_ids), total)
        work = _Work(location, self._models, self._judge_key, plan, records, running)

        def run() -> None:
            try:
                with self._turn:
                    work.run_all()
            finally:
                with self._lock:
                    self._running.pop(evaluation_id, None)
                lock.release()
                running.end()

        with self._lock:
            self._running[evaluation_id] = running
        threading.Thread(target=run, name="evaluation", daemon=True).start()
        return running


@dataclass(frozen=True)
class _Work:
    """One evaluation in its thread."""

    location: ChatLocation
    models: ModelAccess
    judge_key: Callable[[], str]
    plan: EvaluationPlan
    records: tuple[PromptRecord, ...]
    running: RunningEvaluation

    def run_all(self) -> None:
        """Ask and score for every candidate. What goes wrong becomes the error of `running`."""
        client = MlflowClient(self.location.tracking_uri)
        for number, run_id in enumerate(self.running.run_ids):
            status = "KILLED"
            try:
                with translate_store_errors(self.location.tracking_uri):
                    if client.get_run(run_id).info.status == "FINISHED":
                        self.running.advance(number, len(self.records) * self.plan.repeats)
                        continue
                    if self.running.is_cancelled():
                        return
                    client.update_run(run_id, "RUNNING")
                    self._run_candidate(number, run_id)
                    status = "KILLED" if self.running.is_cancelled() else "FINISHED"
            except UserError as error:
                status = "FAILED"
                self.running.fail(error)
            except Exception as error:
                status = "FAILED"
                logger.exception("Evaluation %s failed", self.running.id)
                self.running.fail(UserError("unexpected", detail=type(error).__name__))
            finally:
                if status != "KILLED" or self.running.is_cancelled():
                    _set_status(client, run_id, status)
            if status == "FAILED":
                return

    def _run_candidate(self, number: int, run_id: str) -> None:
        candidate = self.plan.candidates[number]
        entry = self.models.find(candidate.model_id)
        if not self._ask_all(number, run_id, entry):
            return
        self.running.set_phase("scoring", number)
        traces = answer_traces.load_traces(self.location, run_id)
        known = {record.key: record for record in self.records}
        self._score(run_id, entry, traces, known)
        answers = [
            answer_traces.with_expectations(one, known)
            for one in parse_answers(answer_traces.load_traces(self.location, run_id))
        ]
        log_results(self.location, run_id, candidate.model_id, self.plan, candidate.name, answers)

    def _ask_all(self, number: int, run_id: str, entry: ModelEntry) -> bool:
        """Ask what was not answered yet; False if it was cancelled."""
        candidate, running = self.plan.candidates[number], self.running
        answered = answer_traces.list_answered(self.location, run_id)
        running.set_phase("asking", number)
        running.advance(number, len(answered))
        takes_seed = "seed" in entry.supported_params and (self.plan.repeats > 1 or candidate.params.seed is not None)
        for repeat in range(self.plan.repeats):
            for record in self.records:
                if (record.key, repeat) in answered:
                    continue
                request = self.plan.build_request(candidate, record, repeat, takes_seed)
                request = replace(request, template=candidate.template or entry.template)
                asked_at = time.time()
                answer = ask_patiently(
                    lambda: self.models.get(entry, candidate.template),
                    entry.name,
                    request,
                    running.cancel_token,
                    running.wait_for_place,
                )
                if answer is None:
                    return False
                asked = AskedRequest(
                    run_id, record, repeat, entry.model_id, request.params, asked_at, time.time(), answer
                )
                answer_traces.write_answer(self.location, asked)
                running.advance(number, 1)
        return not running.is_cancelled()

    def _score(
        self, run_id: str, entry: ModelEntry, traces: Sequence[Trace], known: Mapping[str, PromptRecord]
    ) -> None:
        """Score what has not all its scores yet."""
        answers = {one.trace_id: answer_traces.with_expectations(one, known) for one in parse_answers(traces)}
        scorers = self._build_scorers(answers)
        names = {one.name for one in scorers}
        unscored = [
            trace
            for trace in traces
            if trace.info.trace_id in answers and not names <= {one.name for one in answer_traces.list_scores(trace)}
        ]
        if not scorers or not unscored:
            return
        answer_traces.delete_scores(self.location, unscored)
        model_id = entry.model_id if is_logged_model(entry.model_id) else None
        dataset = runs.describe_dataset(self.plan)
        scoring.score_traces(self.location, run_id, model_id, dataset, unscored, answers, scorers)

    def _build_scorers(self, answers: scoring.Answers) -> "list[MlflowScorer]":
        built_in = [scoring.wrap_scorer(one, answers) for one in parse_scorers(self.plan.scorers)]
        own = [one for text in self.plan.own_scorers for one in load_own_scorer(text)]
        judge = [scoring.wrap_judge(self._build_judge(), answers)] if self.plan.judge else []
        return [*built_in, *own, *judge]

    def _build_judge(self) -> Judge:
        plan = self.plan.judge
        if plan is None:
            raise RuntimeError("no judge is planned")
        if plan.url:
            return judge_with_endpoint(plan.url, plan.model, self.judge_key(), plan.criterion)
        entry = self.models.find(plan.model)
        return judge_with_model(entry, lambda: self.models.get(entry, None), plan.criterion)


def log_results(  # noqa: PLR0913  # what a report is made of
    location: ChatLocation,
    run_id: str,
    model_id: str,
    plan: EvaluationPlan,
    name: str,
    answers: Sequence[EvaluatedAnswer],
) -> dict[str, float]:
    """Log metrics, table and report of a run's answers, and return the metrics."""
    metrics = summarize_answers(answers)
    # Under MLflow's own names again: what it logged is of the answers that were scored last.
    means = {key.removesuffix("low") + "mean": metrics[key.removesuffix("/low")] for key in metrics if "/low" in key}
    runs.log_metrics(location, run_id, model_id, metrics | means)
    runs.log_table(location, run_id, build_table(answers))
    report = render_report(name, plan, answers, metrics)
    MlflowClient(location.tracking_uri).log_text(run_id, report, runs.REPORT_FILE)
    return metrics


def parse_answers(traces: Sequence[Trace]) -> list[EvaluatedAnswer]:
    """The answers that these traces hold. Damaged ones are left out and logged."""
    answers = []
    for trace in traces:
        try:
            answers.append(answer_traces.parse_answer(trace))
        except (ValueError, LookupError, TypeError) as error:
            logger.warning("Skipped trace %s of an evaluation: %s", trace.info.trace_id, error)
    return answers


def _set_status(client: MlflowClient, run_id: str, status: str) -> None:
    try:
        client.set_terminated(run_id, status)
    except Exception:
        logger.exception("The status of run %s could not be set", run_id)
