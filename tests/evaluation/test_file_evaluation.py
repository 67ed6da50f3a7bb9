"""The run that an evaluation of one model on a file logs."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from models.tracking import Store
from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.types import (
    AnswerEvent,
    CancelToken,
    ChatRequest,
    Completed,
    GenerationParams,
    Message,
    TextDelta,
    Timings,
    Usage,
)
from phi3_ui.errors import UserError
from phi3_ui.evaluation.answer_rows import build_row, summarize_metrics
from phi3_ui.evaluation.file_evaluation import FileEvaluation
from phi3_ui.evaluation.questions import read_records
from phi3_ui.store.registry.catalogue import Catalogue
from tests.support.tiny_models import TinyStore


def _write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8", newline="")
    return file


def test_metrics_omit_unknown_values() -> None:
    complete = Answer("m", "a", Usage(10, 4), Timings(0.5, 1.5, 3.0), "stop")
    rows = [build_row(complete), build_row(Answer("m", "b", None, Timings(None, 1.0, None), "stop"))]
    rows.append(build_row(Answer("m", "", error=("refused", {"model": "m", "detail": "no"}))))

    metrics = summarize_metrics(rows)

    assert metrics == {
        "answers": 2,
        "failures": 1,
        "prompt_tokens": 10,
        "mean_prompt_tokens": 10,
        "completion_tokens": 4,
        "mean_completion_tokens": 4,
        "total_tokens": 14,
        "mean_total_tokens": 14,
        "mean_time_to_first_token": 0.5,
        "p50_first_token": 0.5,
        "p95_first_token": 0.5,
        "p50_tokens_per_second": 3.0,
        "p95_tokens_per_second": 3.0,
        "p50_seconds": 1.25,
        "p95_seconds": 1.475,
        "mean_tokens_per_second": 3.0,
        "mean_seconds": 1.25,
    }
    assert rows[2]["error"] == "m rejected the question: no"
    assert summarize_metrics([]) == {"answers": 0, "failures": 0}


class _FailingModel:
    """Echoes the question, and raises for the questions that should fail."""

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        question = request.messages[-1].content
        if question == "no":
            raise UserError("refused", model="failing", detail="no")
        if question == "broken":
            raise UserError("load_failed", model="failing", detail="no", log="none")
        yield TextDelta(question)
        yield Completed(question, Usage(1, 2), Timings(0.1, 0.2, 10.0), "stop")


@pytest.fixture
def evaluation(tiny: TinyStore, tmp_path: Path) -> FileEvaluation:
    entry = Catalogue(tiny.uri).list_models()[0]
    return FileEvaluation(
        entry, _FailingModel(), GenerationParams(temperature=0.0), _write(tmp_path, "q.txt", "yes\nno\n")
    )


def test_a_run_records_answers_metrics_and_parameters(
    tiny: TinyStore, evaluation: FileEvaluation, tmp_path: Path
) -> None:
    result = evaluation.run(Store(tiny.uri), [record.messages for record in read_records(evaluation.file)])

    client = MlflowClient(tiny.uri)
    run = client.get_run(result.run_id)
    table = json.loads(Path(client.download_artifacts(result.run_id, "answers.json", str(tmp_path))).read_text("utf-8"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert run.info.status == "FINISHED"
    assert [row["question"] for row in rows] == ["yes", "no"]
    assert [row["answer"] for row in rows] == ["yes", ""]
    assert run.data.metrics == result.metrics
    assert (result.metrics["answers"], result.metrics["failures"], result.metrics["total_tokens"]) == (1, 1, 3)
    assert run.data.params["evaluated_model_id"] == evaluation.entry.model_id
    assert run.data.params["params.temperature"] == "0.0"


def test_the_run_in_mlflow_run_id_is_used(
    tiny: TinyStore, evaluation: FileEvaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(tiny.uri)
    run_id = client.create_run(Store(tiny.uri).experiment_id()).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)

    assert (
        evaluation.run(Store(tiny.uri), [record.messages for record in read_records(evaluation.file)]).run_id == run_id
    )


def test_a_model_that_does_not_load_fails_the_run_and_keeps_earlier_answers(
    tiny: TinyStore, evaluation: FileEvaluation
) -> None:
    questions = [(Message("user", text),) for text in ("yes", "broken", "yes")]
    with pytest.raises(UserError, match="could not be loaded"):
        evaluation.run(Store(tiny.uri), questions)

    client = MlflowClient(tiny.uri)
    run = client.search_runs([Store(tiny.uri).experiment_id()], max_results=1)[0]
    assert (run.info.status, run.data.metrics["answers"]) == ("FAILED", 1)
