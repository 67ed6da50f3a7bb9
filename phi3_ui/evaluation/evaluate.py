"""Questions of a file put to one model, and what came of it as one run: a table of answers, metrics, params."""

import csv
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import mlflow

from models.tracking import Store
from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.types import CancelToken, ChatRequest, Completed, GenerationParams, Message, Role
from phi3_ui.errors import UserError
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.registry.cards import ModelEntry

TABLE = "answers.json"

Messages = tuple[Message, ...]
Row = dict[str, str | int | float | None]


def read_questions(file: Path, system: str = "") -> list[Messages]:
    """What each line of a file asks, after `system` where that says something and the line has no system prompt of its own.

    UserError: questions_unreadable, question_missing, no_questions.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        lines = list(_lines(file, text))
    except (OSError, ValueError, csv.Error) as error:
        detail = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise UserError("questions_unreadable", file=str(file), detail=detail) from error
    if not lines:
        raise UserError("no_questions", file=str(file))
    asked = []
    for number, line in lines:
        messages = _messages(line)
        if not messages or messages[-1].role != "user" or not messages[-1].content.strip():
            raise UserError("question_missing", file=str(file), line=number)
        has_system = messages[0].role == "system" or not system.strip()
        asked.append(messages if has_system else (Message("system", system), *messages))
    return asked


def _lines(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Number and content of each line that is not empty. ValueError for a file of another kind or a line that is no JSON."""
    match file.suffix.lower():
        case ".txt":
            yield from ((n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip())
        case ".jsonl":
            # Not splitlines: a JSON text may hold the other characters that end a line.
            yield from ((n, json.loads(line)) for n, line in enumerate(text.split("\n"), 1) if line.strip())
        case ".csv":
            reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
            yield from ((reader.line_num, row) for row in reader)
        case other:
            raise ValueError(f"its name ends in {other or 'nothing'}")


def _messages(line: Any) -> Messages:
    """The messages that a line holds; none if it holds none that a model could be sent."""
    if isinstance(line, str):
        return (Message("user", line.strip()),)
    if not isinstance(line, dict):
        return ()
    if isinstance(prompt := line.get("prompt"), str):
        return (Message("user", prompt),)
    given = line.get("messages")
    if not isinstance(given, list) or not all(_is_message(one) for one in given):
        return ()
    return tuple(Message(one["role"], one["content"]) for one in given)


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and value.get("role") in get_args(Role) and isinstance(value.get("content"), str)


def ask(model: ChatModel, name: str, messages: Messages, params: GenerationParams) -> Answer:
    """One answer, also where it ended in an error. UserError("load_failed"): then no other question fares better."""
    try:
        for event in model.answer(ChatRequest(messages, params), CancelToken()):
            if isinstance(event, Completed):
                return Answer(name, event.text, event.usage, event.timings, event.finish_reason)
    except UserError as error:
        if error.code == "load_failed":
            raise
        return Answer(name, "", error=(error.code, error.values))
    raise RuntimeError("the model's answer has no end")


def build_row(answer: Answer) -> Row:
    """An answer with its figures, flat; None for what is unknown."""
    usage, timings = answer.usage, answer.timings
    return {
        "answer": answer.text,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "total_tokens": usage.total_tokens if usage else None,
        "time_to_first_token": timings.time_to_first_token if timings else None,
        "seconds": timings.seconds if timings else None,
        "tokens_per_second": timings.tokens_per_second if timings else None,
        "finish_reason": answer.finish_reason,
        "error": str(UserError(answer.error[0], **answer.error[1])) if answer.error else None,
    }


def summarize_metrics(rows: Sequence[Row]) -> dict[str, float]:
    """Counts and, over the answers that know them, sums and means; what none knows is left out."""

    def known(name: str) -> list[float]:
        return [float(value) for row in rows if isinstance(value := row[name], (int, float))]

    failures = sum(row["error"] is not None for row in rows)
    metrics = {"answers": float(len(rows) - failures), "failures": float(failures)}
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        if values := known(name):
            metrics |= {name: sum(values), f"mean_{name}": fmean(values)}
    for name in ("time_to_first_token", "tokens_per_second", "seconds"):
        if values := known(name):
            metrics[f"mean_{name}"] = fmean(values)
    return metrics


@dataclass(frozen=True)
class EvaluationResult:
    run_id: str
    rows: list[Row]
    metrics: dict[str, float]

    def write(self, file: Path) -> None:
        """The table, as one JSON object a line. UserError("not_writable")."""
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows]
        try:
            file.write_text("".join(lines), encoding="utf-8")
        except OSError as error:
            raise UserError("not_writable", folder=str(file)) from error


@dataclass(frozen=True)
class Evaluation:
    """`model` answers as `entry`; `file` is where the questions were read."""

    entry: ModelEntry
    model: ChatModel
    params: GenerationParams
    file: Path

    def run(
        self, store: Store, questions: Sequence[Messages], progress: Callable[[int, int], None] = lambda *_: None
    ) -> EvaluationResult:
        """Ask everything, in one run: that of an `mlflow run` around this process, else a new one.

        The answers so far are logged however it ends. UserError: load_failed, and store_unreachable or store_read_only.
        """
        with translate_store_errors(store.tracking_uri):
            mlflow.set_tracking_uri(store.tracking_uri)
            inherited = bool(os.environ.get("MLFLOW_RUN_ID"))
            new = (
                {} if inherited else {"experiment_id": store.experiment_id(), "run_name": f"evaluate {self.entry.name}"}
            )
            rows: list[Row] = []
            with mlflow.start_run(**new) as run:
                mlflow.set_tag("model_id", self.entry.model_id)
                mlflow.log_params(self._params(len(questions)))
                try:
                    for number, messages in enumerate(questions, 1):
                        answer = ask(self.model, self.entry.name, messages, self.params)
                        rows.append({"question": messages[-1].content, **build_row(answer)})
                        progress(number, len(questions))
                finally:
                    metrics = summarize_metrics(rows)
                    mlflow.log_metrics(metrics, model_id=self.entry.model_id)
                    if rows:
                        with warnings.catch_warnings():
                            warnings.simplefilter(
                                "ignore", DeprecationWarning
                            )  # MLflow of pandas, whatever it is given
                            mlflow.log_table({name: [row[name] for row in rows] for name in rows[0]}, TABLE)
            return EvaluationResult(run.info.run_id, rows, metrics)

    def _params(self, questions: int) -> dict[str, Any]:
        # An `mlflow run` has recorded its own parameters, such as model and file, under their names.
        return {
            "evaluated_model_id": self.entry.model_id,
            "evaluated_model": self.entry.name,
            "questions": questions,
            "questions_file": self.file.name,
            "questions_sha256": hashlib.sha256(self.file.read_bytes()).hexdigest(),
            **{f"params.{name}": value for name, value in self.params.as_dict().items()},
        }
