"""The work of one evaluation: ask, score and report, candidate by candidate."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.entities import Trace

from models.model_ids import is_logged_model
from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.types import Message
from phi3_ui.errors import UserError
from phi3_ui.evaluation import answer_traces, runs, scoring
from phi3_ui.evaluation.answer_rows import EvaluatedAnswer, build_table, summarize_answers
from phi3_ui.evaluation.answer_traces import AnsweredRequest
from phi3_ui.evaluation.asking import ask_with_retry
from phi3_ui.evaluation.judge import Judge, judge_with_endpoint, judge_with_model
from phi3_ui.evaluation.own_scorers import load_own_scorer
from phi3_ui.evaluation.plan import Candidate, EvaluationPlan
from phi3_ui.evaluation.prompt_set import PromptRecord
from phi3_ui.evaluation.report import render_report
from phi3_ui.evaluation.running import RunningEvaluation
from phi3_ui.evaluation.scorers import parse_scorers
from phi3_ui.evaluation.sessions import Session, list_sessions, replay_session
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.registry.cards import ModelEntry

if TYPE_CHECKING:
    from mlflow.genai.scorers import Scorer as MlflowScorer

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class ModelAccess:
    """How evaluations get their models: the same way as the chats of the app."""

    find: Callable[[str], ModelEntry]
    """Returns the model with an id. Raises UserError("model_gone")."""
    require: Callable[[ModelEntry], None]
    """Raises UserError("model_not_trusted") for a model that may not be loaded."""
    get: Callable[[ModelEntry, str | None], ChatModel]
    """Returns the model with a prompt template (None: its own), loading it if necessary."""


@dataclass(frozen=True)
class Work:
    """One evaluation, executed in its own thread."""

    location: ChatLocation
    models: ModelAccess
    judge_key: Callable[[], str]
    plan: EvaluationPlan
    records: tuple[PromptRecord, ...]
    running: RunningEvaluation

    def run_all(self) -> None:
        """Ask and score for every candidate. An error becomes the error of `running`."""
        client = MlflowClient(self.location.tracking_uri)
        for number, run_id in enumerate(self.running.run_ids):
            status = "KILLED"
            try:
                with translate_store_errors(self.location.tracking_uri):
                    if runs.is_complete(client, run_id):
                        self.running.advance(number, len(self.records) * self.plan.repeats)
                        continue
                    if self.running.is_cancelled():
                        return
                    client.update_run(run_id, "RUNNING")
                    status = "FINISHED" if self._run_candidate(number, run_id) else "KILLED"
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

    def _run_candidate(self, number: int, run_id: str) -> bool:
        """Ask, score and report; return False if it was cancelled before it was complete."""
        candidate = self.plan.candidates[number]
        entry = self.models.find(candidate.model_id)
        if not self._ask_all(number, run_id, entry):
            return False
        self.running.set_phase("scoring", number)
        traces = answer_traces.load_traces(self.location, run_id)
        known = dict(self._iterate_keyed_records())
        self._score(run_id, entry, traces, known)
        if self.running.is_cancelled():
            return False
        answers = [
            answer_traces.with_expectations(one, known)
            for one in parse_answers(answer_traces.load_traces(self.location, run_id))
        ]
        log_results(self.location, run_id, candidate.model_id, self.plan, candidate.name, answers)
        runs.mark_complete(self.location, run_id)
        return True

    def _iterate_keyed_records(self) -> Iterator[tuple[str, PromptRecord]]:
        """Yield each record with the key under which its answers are stored."""
        if not self.plan.session_turns:
            yield from ((record.key, record) for record in self.records)
            return
        for session in list_sessions(self.plan.session_turns, self.records):
            yield from zip(session.keys, session.records, strict=True)

    def _ask_all(self, number: int, run_id: str, entry: ModelEntry) -> bool:
        """Send the unanswered requests; return False if the evaluation was cancelled."""
        candidate, running = self.plan.candidates[number], self.running
        answered = answer_traces.list_answered(self.location, run_id)
        running.set_phase("asking", number)
        running.advance(number, len(answered))
        asker = _Asker(self, run_id, entry, candidate, number)
        if self.plan.session_turns:
            return asker.replay_sessions()
        for repeat in range(self.plan.repeats):
            for record in self.records:
                if (record.key, repeat) not in answered and asker.ask(record, record.key, repeat) is None:
                    return False
        return not running.is_cancelled()

    def _score(
        self, run_id: str, entry: ModelEntry, traces: Sequence[Trace], known: Mapping[str, PromptRecord]
    ) -> None:
        """Score the answers that do not have all their scores yet."""
        answers = {one.trace_id: answer_traces.with_expectations(one, known) for one in parse_answers(traces)}
        scorers = self._build_scorers(answers)
        unscored = scoring.list_unscored([one for one in traces if one.info.trace_id in answers], scorers)
        if not scorers or not unscored:
            return
        answer_traces.delete_scores(self.location, unscored, keep=[one.name for one in scorers])
        model_id = entry.model_id if is_logged_model(entry.model_id) else None
        dataset = runs.describe_dataset(self.plan)
        scoring.score_traces(
            self.location, run_id, model_id, dataset, unscored, answers, scorers, self.running.is_cancelled
        )

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
        return judge_with_model(entry, lambda: self._get_model_with_retry(entry), plan.criterion)

    def _get_model_with_retry(self, entry: ModelEntry) -> ChatModel:
        """Return the model, waiting until it can be loaded. Raises UserError: too_many_models, if cancelled meanwhile."""
        while True:
            try:
                return self.models.get(entry, None)
            except UserError as error:
                if error.code != "too_many_models" or self.running.wait_for_capacity(_RETRY_SECONDS):
                    raise


@dataclass(frozen=True)
class _Asker:
    """Sends requests to one candidate and writes its answers."""

    work: Work
    run_id: str
    entry: ModelEntry
    candidate: Candidate
    number: int
    """The index of the candidate in the plan."""

    def ask(self, record: PromptRecord, key: str, repeat: int, session_id: str = "") -> Answer | None:
        """Send one request and write the answer; return None if it was cancelled."""
        work, candidate, entry = self.work, self.candidate, self.entry
        takes_seed = "seed" in entry.supported_params and (work.plan.repeats > 1 or candidate.params.seed is not None)
        request = work.plan.build_request(candidate, record, repeat, takes_seed)
        request = replace(request, template=candidate.template or entry.template)
        asked_at = time.time()
        answer = ask_with_retry(
            lambda: work.models.get(entry, candidate.template),
            entry.name,
            request,
            work.running.cancel_token,
            work.running.wait_for_capacity,
        )
        if answer is None:
            return None
        answered = AnsweredRequest(
            self.run_id,
            key,
            replace(record, messages=request.messages),
            repeat,
            entry.model_id,
            request.params,
            asked_at,
            time.time(),
            answer,
            session_id,
        )
        answer_traces.write_answer(work.location, answered)
        work.running.advance(self.number, 1)
        return answer

    def replay_sessions(self) -> bool:
        """Replay every conversation; return False if it was cancelled. Raises the UserError that ended it, if any."""
        work, run_id = self.work, self.run_id
        stored = {
            (trace.info.trace_metadata[answer_traces.RECORD_KEY], one.repeat): one.answer.text
            for trace in answer_traces.load_traces(work.location, run_id)
            for one in parse_answers([trace])
        }
        for repeat in range(work.plan.repeats):
            for session in list_sessions(work.plan.session_turns, work.records):
                if all((key, repeat) in stored for key in session.keys):
                    continue
                if not self._replay(session, repeat, stored):
                    return False
        return not work.running.is_cancelled()

    def _replay(self, session: Session, repeat: int, stored: Mapping[tuple[str, int], str]) -> bool:
        session_id, errors = session.get_id(self.run_id, repeat), list[UserError]()
        is_cancelled = False

        def answer(turn: int, history: tuple[Message, ...]) -> tuple[str, str]:
            nonlocal is_cancelled
            key, record = session.keys[turn], session.records[turn]
            trace_id = answer_traces.get_trace_id(self.run_id, key, repeat)
            if (key, repeat) in stored:
                return stored[key, repeat], trace_id
            system = record.messages[:1] if record.messages[0].role == "system" else ()
            try:
                answered = self.ask(replace(record, messages=(*system, *history)), key, repeat, session_id)
            except UserError as error:
                errors.append(error)
                return "", ""
            is_cancelled = answered is None
            return (answered.text, trace_id) if answered else ("", "")

        with scoring.use_store(self.work.location):
            replay_session(self.run_id, session, answer)
        if errors:
            raise errors[0]
        return not is_cancelled


def log_results(  # noqa: PLR0913  # the parts of a report
    location: ChatLocation,
    run_id: str,
    model_id: str,
    plan: EvaluationPlan,
    name: str,
    answers: Sequence[EvaluatedAnswer],
) -> dict[str, float]:
    """Log metrics, table and report on a run's answers, and return the metrics."""
    metrics = summarize_answers(answers)
    # Also under MLflow's own names: the means that it logged cover only the batch of answers that was scored last.
    means = {key.removesuffix("low") + "mean": metrics[key.removesuffix("/low")] for key in metrics if "/low" in key}
    runs.log_metrics(location, run_id, model_id, metrics | means)
    runs.log_table(location, run_id, build_table(answers))
    report = render_report(name, plan, answers, metrics)
    MlflowClient(location.tracking_uri).log_text(run_id, report, runs.REPORT_FILE)
    return metrics


def parse_answers(traces: Sequence[Trace]) -> list[EvaluatedAnswer]:
    """Return the answers in these traces. Damaged ones are skipped and logged."""
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
        logger.exception("Could not set the status of run %s", run_id)
