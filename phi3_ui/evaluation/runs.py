"""The MLflow runs of evaluations: create them with everything needed to resume, log to them, and list them."""

import json
import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, LoggedModelInput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from models.model_ids import is_logged_model
from phi3_ui.errors import UserError
from phi3_ui.evaluation.answer_rows import AnswerRow
from phi3_ui.evaluation.plan import EvaluationPlan, parse_plan, serialize_plan
from phi3_ui.evaluation.prompt_set import PromptRecord, write_records
from phi3_ui.evaluation.questions import read_records
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.query import paginate

logger = logging.getLogger(__name__)

REPORT_FILE = "report.html"
ANSWERS_FILE = "answers.json"
_PLAN_FILE, _RECORDS_FILE = "evaluation/plan.json", "evaluation/records.jsonl"
_EVALUATION_TAG, _NUMBER_TAG = "phi3_ui.evaluation", "phi3_ui.candidate"
_COMPLETE_TAG = "phi3_ui.complete"
"""Set when a run is complete: MLflow's evaluate() ends the run, so that it is FINISHED before it has its report."""
_PAGE_SIZE = 100
_MAX_PARAM = 500  # characters; MLflow's own limit is higher, but its UI shows one line


@dataclass(frozen=True)
class EvaluationRun:
    """One candidate of an evaluation, as stored in MLflow."""

    run_id: str
    evaluation_id: str
    number: int
    """Index of the candidate in the plan, counted from 0."""
    name: str
    """Of the candidate."""
    model_id: str
    status: str
    """MLflow's: SCHEDULED, RUNNING, FINISHED, FAILED, or KILLED after a cancellation."""
    started_at: float
    """Seconds since 1970, UTC."""
    set_name: str
    set_version: int
    questions: int
    repeats: int
    metrics: Mapping[str, float]
    """Present once the run is finished."""
    params: Mapping[str, str]


@dataclass(frozen=True)
class Evaluation:
    """The runs of one evaluation, in the order of its candidates."""

    id: str
    runs: tuple[EvaluationRun, ...]
    runs_elsewhere: bool = False
    """Whether another process or server is running it."""

    @property
    def is_finished(self) -> bool:
        """Whether every candidate has its metrics."""
        return all(run.status == "FINISHED" for run in self.runs)


def create_runs(
    location: ChatLocation, evaluation_id: str, plan: EvaluationPlan, records: tuple[PromptRecord, ...]
) -> list[str]:
    """Create a SCHEDULED run for each candidate, with a link to the model and with the plan. Returns their ids."""
    client = MlflowClient(location.tracking_uri)
    known = {run.number: run.run_id for run in list_runs(location, evaluation_id)}
    return [
        known[number] if number in known else _create_run(client, location, evaluation_id, plan, records, number)
        for number in range(len(plan.candidates))
    ]


def load_plan(location: ChatLocation, evaluation_id: str) -> tuple[EvaluationPlan, tuple[PromptRecord, ...]]:
    """Return the plan of an evaluation and its records. Raises UserError("no_such_evaluation")."""
    client = MlflowClient(location.tracking_uri)
    for run in list_runs(location, evaluation_id):
        with tempfile.TemporaryDirectory() as folder:
            try:
                plan = Path(client.download_artifacts(run.run_id, _PLAN_FILE, folder)).read_bytes()
                records = read_records(Path(client.download_artifacts(run.run_id, _RECORDS_FILE, folder)))
                return parse_plan(plan), tuple(records)
            except (MlflowException, OSError, ValueError, UserError):
                continue  # the process was killed while it created this run
    raise UserError("no_such_evaluation", id=evaluation_id)


def list_runs(location: ChatLocation, evaluation_id: str) -> list[EvaluationRun]:
    """Return the existing runs of an evaluation, in the order of its candidates."""
    if not evaluation_id.isalnum():
        return []
    found = _search(location, f"tags.`{_EVALUATION_TAG}` = '{evaluation_id}'")
    return sorted(_parse_runs(found), key=lambda run: run.number)


def list_evaluations(location: ChatLocation) -> list[Evaluation]:
    """Return all evaluations, newest first."""
    grouped = dict[str, list[EvaluationRun]]()
    for run in _parse_runs(_search(location, f"tags.`{_EVALUATION_TAG}` != ''")):
        grouped.setdefault(run.evaluation_id, []).append(run)
    return [Evaluation(key, tuple(sorted(runs, key=lambda run: run.number))) for key, runs in grouped.items()]


def log_metrics(location: ChatLocation, run_id: str, model_id: str, metrics: Mapping[str, float]) -> None:
    """Log metrics in a run, linked to its model."""
    now = int(time.time() * 1000)
    linked = model_id if is_logged_model(model_id) else None
    MlflowClient(location.tracking_uri).log_batch(
        run_id, [Metric(name, value, now, 0, model_id=linked, run_id=run_id) for name, value in metrics.items()]
    )


def is_complete(client: MlflowClient, run_id: str) -> bool:
    """Whether a run has its answers, scores, metrics and report."""
    return _COMPLETE_TAG in client.get_run(run_id).data.tags


def mark_complete(location: ChatLocation, run_id: str) -> None:
    """Mark a run as complete."""
    MlflowClient(location.tracking_uri).set_tag(run_id, _COMPLETE_TAG, "true")


def log_table(location: ChatLocation, run_id: str, rows: Sequence[AnswerRow]) -> None:
    """Log the answers of a run as a table for MLflow's UI. An earlier one is replaced; MLflow's log_table would append to it."""
    client = MlflowClient(location.tracking_uri)
    columns = list(rows[0]) if rows else []
    content = {"columns": columns, "data": [[row[name] for name in columns] for row in rows]}
    client.log_text(run_id, json.dumps(content, ensure_ascii=False), ANSWERS_FILE)
    tables = json.dumps([{"path": ANSWERS_FILE, "type": "table"}])
    client.set_tag(run_id, "mlflow.loggedArtifacts", tables)  # the UI finds the table by this tag


def describe_dataset(plan: EvaluationPlan) -> dict[str, str]:
    """Return the prompt set's version in the form of a run's dataset input."""
    return {
        "name": plan.set_name,
        "digest": plan.set_digest[:32],  # MLflow allows 36 characters
        "source_type": "mlflow_evaluation_dataset" if plan.set_id else "local",
        "source": f'{{"dataset_id": "{plan.set_id}", "version": {plan.set_version}}}',
    }


def _create_run(  # noqa: PLR0913  # the parts of a run
    client: MlflowClient,
    location: ChatLocation,
    evaluation_id: str,
    plan: EvaluationPlan,
    records: tuple[PromptRecord, ...],
    number: int,
) -> str:
    candidate = plan.candidates[number]
    params = {
        "evaluated_model_id": candidate.model_id,
        "evaluated_model": candidate.name,
        "prompt_set": plan.set_name,
        "prompt_set_version": plan.set_version,
        "prompt_set_digest": plan.set_digest,
        "questions": len(records),
        "repeats": plan.repeats,
        **({"judge": plan.judge.model} if plan.judge else {}),
        **{f"params.{name}": value for name, value in candidate.params.as_dict().items()},
    }
    run = client.create_run(
        location.experiment_id,
        run_name=f"evaluate {candidate.name}",
        tags={_NUMBER_TAG: str(number), "model_id": candidate.model_id, "mlflow.runType": "genai_evaluate"},
    )
    run_id = str(run.info.run_id)
    client.log_text(run_id, serialize_plan(plan), _PLAN_FILE)
    client.log_text(run_id, write_records(records), _RECORDS_FILE)
    client.log_batch(run_id, params=[Param(name, str(value)[:_MAX_PARAM]) for name, value in params.items()])
    models = [LoggedModelInput(candidate.model_id)] if is_logged_model(candidate.model_id) else None
    client.log_inputs(run_id, [DatasetInput(Dataset(**describe_dataset(plan)))], models)
    # Last, since evaluations are found by this tag: a run that has it was created completely.
    client.log_batch(run_id, tags=[RunTag(_EVALUATION_TAG, evaluation_id)])
    client.update_run(run_id, "SCHEDULED")
    return run_id


def _search(location: ChatLocation, query: str) -> Iterable[Run]:
    found: Iterable[Run] = paginate(
        MlflowClient(location.tracking_uri).search_runs,
        experiment_ids=[location.experiment_id],
        filter_string=query,
        max_results=_PAGE_SIZE,
        order_by=["attributes.start_time DESC"],
    )
    return found


def _parse_runs(runs: Iterable[Run]) -> Iterator[EvaluationRun]:
    """Yield the runs written by this app; other programs may write any tag, parameter and time."""
    for run in runs:
        try:
            parsed = _parse_run(run)
            datetime.fromtimestamp(parsed.started_at, UTC).astimezone()  # as the page will do to show it
        except (ValueError, TypeError, OverflowError, OSError) as error:
            logger.info("Run %s is not an evaluation: %s", run.info.run_id, type(error).__name__)
            continue
        yield parsed


def _parse_run(run: Run) -> EvaluationRun:
    tags, params = run.data.tags, run.data.params
    return EvaluationRun(
        run.info.run_id,
        tags[_EVALUATION_TAG],
        int(tags.get(_NUMBER_TAG, 0)),
        params.get("evaluated_model", ""),
        params.get("evaluated_model_id", ""),
        run.info.status if run.info.status != "FINISHED" or _COMPLETE_TAG in tags else "RUNNING",
        run.info.start_time / 1000,
        params.get("prompt_set", ""),
        int(params.get("prompt_set_version", 0)),
        int(params.get("questions", 0)),
        int(params.get("repeats", 1)),
        run.data.metrics,
        params,
    )
