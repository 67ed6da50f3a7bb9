"""Start, resume, cancel and read evaluations. They run one at a time, and their candidates in sequence, so that timings are comparable."""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from phi3_ui.chat.conversation import new_id
from phi3_ui.errors import UserError
from phi3_ui.evaluation import answer_traces, runs
from phi3_ui.evaluation.answer_rows import EvaluatedAnswer
from phi3_ui.evaluation.judge import JUDGE_NAME
from phi3_ui.evaluation.own_scorers import load_own_scorer
from phi3_ui.evaluation.plan import MAX_REPEATS, EvaluationPlan
from phi3_ui.evaluation.prompt_set import PromptRecord, merge_duplicates
from phi3_ui.evaluation.running import RunningEvaluation
from phi3_ui.evaluation.scorers import parse_scorers, require_expectations
from phi3_ui.evaluation.work import ModelAccess, Work, parse_answers
from phi3_ui.prompts.templates import TEMPLATES
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.lease import Lease

__all__ = ["Evaluations", "ModelAccess"]


class Evaluations:
    """The evaluations of one store. Thread-safe. Methods raise UserError as translate_store_errors does, and as documented."""

    def __init__(
        self, locate: Callable[[], ChatLocation], models: ModelAccess, locks: Path, judge_key: Callable[[], str]
    ) -> None:
        """Open the evaluations of a store.

        Args:
            locate: As for the recorder: runs and answers are stored where the chats are.
            models: The models.
            locks: A folder for lock files; the process that holds one runs that evaluation.
            judge_key: Returns the API key for an external judge; empty for none.
        """
        self._locate = locate
        self._models = models
        self._locks = locks
        self._judge_key = judge_key
        self._run_lock = threading.Lock()  # held by the evaluation that is in progress
        self._lock = threading.Lock()
        self._running = dict[str, RunningEvaluation]()

    def start(self, plan: EvaluationPlan, records: Sequence[PromptRecord]) -> RunningEvaluation:
        """Check a plan, create its runs, and start it in its own thread.

        Args:
            plan: What to evaluate.
            records: The records of the plan's prompt set.

        Raises:
            UserError: no_questions, model_gone, model_not_trusted, unsupported_option, bad_scorer, scorer_twice, scorer_without_expectation,
                own_scorer_missing, own_scorer_failed.
        """
        if not records:
            raise UserError("no_questions", file=plan.set_name)
        self.check(plan, records)
        plan = replace(plan, repeats=min(max(plan.repeats, 1), MAX_REPEATS))
        requests = tuple(records) if plan.session_turns else tuple(merge_duplicates(records))
        return self._launch(new_id(), plan, requests)

    def resume(self, evaluation_id: str) -> RunningEvaluation:
        """Resume an evaluation that was cancelled, failed or was killed; requests already answered are not repeated.

        Raises:
            UserError: no_such_evaluation, evaluation_running, and those of `start`.
        """
        plan, records = self.load_plan(evaluation_id)
        self.check(plan, records)
        return self._launch(evaluation_id, plan, records)

    def load_plan(self, evaluation_id: str) -> tuple[EvaluationPlan, tuple[PromptRecord, ...]]:
        """Return the plan of an evaluation and the records of its prompt set. Raises UserError: no_such_evaluation."""
        location = self._locate()
        with translate_store_errors(location.tracking_uri):
            return runs.load_plan(location, evaluation_id)

    def check(self, plan: EvaluationPlan, records: Sequence[PromptRecord]) -> None:
        """Raise the error that `start` would raise for a plan, if any."""
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
        """Return all evaluations, newest first."""
        location = self._locate()
        with translate_store_errors(location.tracking_uri):
            found = runs.list_evaluations(location)
            return [
                replace(one, runs_elsewhere=not one.is_finished and self._runs_elsewhere(location, one.id))
                for one in found
            ]

    def get_running(self, evaluation_id: str) -> RunningEvaluation | None:
        """Return the evaluation if it was started or resumed in this process and has not ended."""
        with self._lock:
            return self._running.get(evaluation_id)

    def load_answers(self, run_id: str) -> list[EvaluatedAnswer]:
        """Return the answers that a run has so far, with their scores. Damaged traces are skipped and logged."""
        location = self._locate()
        with translate_store_errors(location.tracking_uri):
            return parse_answers(answer_traces.load_traces(location, run_id))

    def _runs_elsewhere(self, location: ChatLocation, evaluation_id: str) -> bool:
        if self.get_running(evaluation_id):
            return False
        if (file := self._find_lock(evaluation_id)).is_file():
            try:
                with FileLock(file, timeout=0):
                    pass
            except Timeout:
                return True
        return self._open_lease(location, evaluation_id).is_held_elsewhere()

    def _open_lease(self, location: ChatLocation, evaluation_id: str) -> Lease:
        return Lease(location.tracking_uri, location.experiment_id, f"evaluation.{evaluation_id}", self._locks)

    def _find_lock(self, evaluation_id: str) -> Path:
        return self._locks / f"{evaluation_id}.lock"

    def _launch(self, evaluation_id: str, plan: EvaluationPlan, records: tuple[PromptRecord, ...]) -> RunningEvaluation:
        location = self._locate()
        self._locks.mkdir(parents=True, exist_ok=True)
        # The kernel releases the lock of a killed process.
        lock = FileLock(self._find_lock(evaluation_id), thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError("evaluation_running") from error
        lease = self._open_lease(location, evaluation_id)
        with ExitStack() as stack:
            stack.callback(lock.release)
            with translate_store_errors(location.tracking_uri):
                if not lease.try_acquire():
                    raise UserError("evaluation_running")
                stack.callback(lease.release)
                run_ids = runs.create_runs(location, evaluation_id, plan, records)
            held_locks = stack.pop_all()
        total = len(records) * plan.repeats * len(plan.candidates)
        running = RunningEvaluation(evaluation_id, tuple(run_ids), total)
        work = Work(location, self._models, self._judge_key, plan, records, running)

        def run() -> None:
            try:
                with self._run_lock:
                    work.run_all()
            finally:
                with self._lock:
                    self._running.pop(evaluation_id, None)
                held_locks.close()
                running.end()

        with self._lock:
            self._running[evaluation_id] = running
        threading.Thread(target=run, name="evaluation", daemon=True).start()
        return running
