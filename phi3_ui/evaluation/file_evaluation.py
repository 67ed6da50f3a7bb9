"""Evaluate one model: ask it the questions of a file, and log answers, metrics and parameters in an MLflow run.

No traces are written, so it works with every store, even one of MLflow 2. Comparisons of models are in evaluations.py.
"""

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking.context.registry import resolve_tags

from models.model_ids import is_logged_model
from models.store_state import require_active_run
from models.tracking import Store
from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.types import ChatRequest, GenerationParams
from phi3_ui.errors import UserError
from phi3_ui.evaluation.answer_rows import AnswerRow, build_row, summarize_metrics
from phi3_ui.evaluation.asking import answer_question
from phi3_ui.evaluation.prompt_set import Messages
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.registry.cards import ModelEntry

ANSWERS_FILE = "answers.json"


@dataclass(frozen=True)
class EvaluationResult:
    """The result of an evaluation."""

    run_id: str
    rows: list[AnswerRow]
    metrics: dict[str, float]

    def write(self, file: Path) -> None:
        """Write the rows as JSON Lines. Raises UserError: not_writable."""
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows]
        try:
            file.write_text("".join(lines), encoding="utf-8")
        except OSError as error:
            raise UserError("not_writable", folder=str(file)) from error


@dataclass(frozen=True)
class FileEvaluation:
    """An evaluation that is ready to run."""

    entry: ModelEntry
    """The model to evaluate."""
    model: ChatModel
    """The same model, loaded."""
    params: GenerationParams
    file: Path
    """The file that the questions were read from."""

    def run(
        self, store: Store, questions: Sequence[Messages], progress: Callable[[int, int], None] = lambda *_: None
    ) -> EvaluationResult:
        """Ask all questions in one run: the run of an enclosing `mlflow run`, or a new one.

        `progress` is called with the numbers of answers and of questions. If a question raises, the answers so far are logged.

        Raises:
            UserError: load_failed, model_not_trusted, model_unreadable, experiment_deleted, run_deleted, and the errors of translate_store_errors.
        """
        with translate_store_errors(store.tracking_uri):
            client, rows = MlflowClient(store.tracking_uri), list[AnswerRow]()
            with _open_run(client, store, f"evaluate {self.entry.name}") as run_id:
                params = [Param(name, str(value)) for name, value in self._build_params(len(questions)).items()]
                client.log_batch(run_id, params=params, tags=[RunTag("model_id", self.entry.model_id)])
                try:
                    for number, messages in enumerate(questions, 1):
                        request = ChatRequest(messages, self.params)
                        answer = answer_question(self.model, self.entry.name, request)
                        rows.append({"question": messages[-1].content, **build_row(answer)})
                        progress(number, len(questions))
                finally:
                    metrics = summarize_metrics(rows)
                    self._log_answers(client, run_id, rows, metrics)
            return EvaluationResult(run_id, rows, metrics)

    def _log_answers(self, client: MlflowClient, run_id: str, rows: list[AnswerRow], metrics: dict[str, float]) -> None:
        now = int(time.time() * 1000)
        model_id = self.entry.model_id if is_logged_model(self.entry.model_id) else None
        client.log_batch(
            run_id, [Metric(name, value, now, 0, model_id=model_id, run_id=run_id) for name, value in metrics.items()]
        )
        if rows:
            columns = {name: [row[name] for row in rows] for name in rows[0]}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # MLflow's own use of pandas
                client.log_table(run_id, columns, ANSWERS_FILE)

    def _build_params(self, questions: int) -> dict[str, object]:
        # `mlflow run` has already logged its own parameters, such as model and file, under those names.
        return {
            "evaluated_model_id": self.entry.model_id,
            "evaluated_model": self.entry.name,
            "questions": questions,
            "questions_file": self.file.name,
            "questions_sha256": hashlib.sha256(self.file.read_bytes()).hexdigest(),
            **{f"params.{name}": value for name, value in self.params.as_dict().items()},
        }


@contextmanager
def _open_run(client: MlflowClient, store: Store, name: str) -> Iterator[str]:
    """Yield the id of the run to log to, and end it after the block: FINISHED, or FAILED if the block raised.

    Unlike `mlflow.start_run`, this does not depend on the process's tracking store; a process may use several.
    """
    run_id = os.environ.get("MLFLOW_RUN_ID", "")
    if not run_id:
        run_id = client.create_run(store.experiment_id(), tags=resolve_tags(), run_name=name).info.run_id
    require_active_run(client, run_id)
    client.update_run(run_id, "RUNNING")
    try:
        yield run_id
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
