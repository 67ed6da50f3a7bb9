"""Reading questions from a file, and the run that an evaluation logs."""

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
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
from phi3_ui.evaluation.evaluate import Evaluation, build_row, summarize_metrics
from phi3_ui.evaluation.questions import read_questions
from phi3_ui.store.registry.catalogue import Catalogue
from tests.support.tiny_models import TinyStore


def _write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8", newline="")
    return file


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.txt", "What is 2 + 2?\n\n  Și \u201ccât\u201d face 3?  \n"),
        ("q.jsonl", '{"prompt": "What is 2 + 2?", "id": 1}\n\n{"prompt": "Și \u201ccât\u201d face 3?"}\n'),
        ("q.csv", 'id,prompt\n1,What is 2 + 2?\n2,"Și \u201ccât\u201d face 3?"\n'),
        ("q.csv", "\ufeffprompt\r\nWhat is 2 + 2?\r\nȘi \u201ccât\u201d face 3?\r\n"),
    ],
)
def test_every_file_format_gives_the_same_questions(tmp_path: Path, name: str, text: str) -> None:
    asked = read_questions(_write(tmp_path, name, text))

    assert asked == [(Message("user", "What is 2 + 2?"),), (Message("user", "Și “cât” face 3?"),)]


def test_a_line_may_be_a_conversation_with_its_own_system_prompt(tmp_path: Path) -> None:
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}
    text = "\n".join(json.dumps(line) for line in [{"messages": [system, user]}, {"prompt": "Bye"}])

    own, given = read_questions(_write(tmp_path, "q.jsonl", text), system="Be long.")

    assert own == (Message("system", "Be brief."), Message("user", "Hi"))
    assert given == (Message("system", "Be long."), Message("user", "Bye"))


_SPLITLINES_ONLY = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""What str.splitlines splits at, besides CR and LF."""


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_lines_end_at_cr_and_lf_only(tmp_path: Path, kind: str, ending: str) -> None:
    questions = [f"first{char}still first" for char in _SPLITLINES_ONLY] + ["second"]
    lines = {
        "txt": questions,
        "jsonl": [json.dumps({"prompt": question}, ensure_ascii=False) for question in questions],
        "csv": ["prompt", *questions],
    }[kind]

    asked = read_questions(_write(tmp_path, f"q.{kind}", "".join(line + ending for line in lines)))

    assert [message.content for (message,) in asked] == questions


@settings(max_examples=30)
@given(st.lists(st.text(max_size=20).filter(str.strip), min_size=1, max_size=4))
@example([f"a{char}b" for char in ["\r", "\n", "\r\n", *_SPLITLINES_ONLY, '"', ","]])
def test_a_csv_file_is_read_as_python_wrote_it(questions: list[str]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerows([["id", "prompt"], *enumerate(questions)])
    with tempfile.TemporaryDirectory() as folder:
        asked = read_questions(_write(Path(folder), "q.csv", written.getvalue()))

    assert [message.content for (message,) in asked] == questions


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("q.txt", " \n", "contains no questions"),
        ("q.jsonl", '{"prompt": "hi"}\n{"question": "hi"}\n', "Line 2 of .* has no question"),
        ("q.jsonl", '{"messages": [{"role": "assistant", "content": "hi"}]}', "Line 1 of .* has no question"),
        ("q.jsonl", '{"messages": [{"role": "tool", "content": "hi"}]}', "Line 1 of .* has no question"),
        ("q.jsonl", '["hi"]', "Line 1 of .* has no question"),
        ("q.jsonl", "\n\nhi", "cannot be read .line 3 is not JSON"),
        ("q.jsonl", '{"prompt": "\\ud800"}', "line 1 contains half a character"),
        ("q.jsonl", "[" * 100_000, "line 1 is nested too deeply"),
        ("q.csv", "question\nhi\n", "Line 2 of .* has no question"),
        ("q.csv", 'prompt\n"hi', "cannot be read"),
        ("q.xlsx", "hi", "its name ends in .xlsx"),
        ("q", "hi", "its name ends in nothing"),
    ],
)
def test_a_file_without_a_valid_question_is_refused(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_questions(_write(tmp_path, name, text))


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_questions(tmp_path / "none.txt")
    (tmp_path / "image.txt").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UserError, match="cannot be read"):
        read_questions(tmp_path / "image.txt")


def test_metrics_leave_out_unknown_values() -> None:
    known = Answer("m", "a", Usage(10, 4), Timings(0.5, 1.5, 3.0), "stop")
    rows = [build_row(known), build_row(Answer("m", "b", None, Timings(None, 1.0, None), "stop"))]
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
        "mean_tokens_per_second": 3.0,
        "mean_seconds": 1.25,
    }
    assert rows[2]["error"] == "m rejected the question: no"
    assert summarize_metrics([]) == {"answers": 0, "failures": 0}


class _FailingModel:
    """Echoes a question, except those that are to fail."""

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        question = request.messages[-1].content
        if question == "no":
            raise UserError("refused", model="failing", detail="no")
        if question == "broken":
            raise UserError("load_failed", model="failing", detail="no", log="none")
        yield TextDelta(question)
        yield Completed(question, Usage(1, 2), Timings(0.1, 0.2, 10.0), "stop")


@pytest.fixture
def evaluation(tiny: TinyStore, tmp_path: Path) -> Evaluation:
    entry = Catalogue(tiny.uri).list_models()[0]
    return Evaluation(entry, _FailingModel(), GenerationParams(temperature=0.0), _write(tmp_path, "q.txt", "yes\nno\n"))


def test_a_run_records_answers_metrics_and_parameters(tiny: TinyStore, evaluation: Evaluation, tmp_path: Path) -> None:
    done = evaluation.run(Store(tiny.uri), read_questions(evaluation.file))

    client = MlflowClient(tiny.uri)
    run = client.get_run(done.run_id)
    table = json.loads(Path(client.download_artifacts(done.run_id, "answers.json", str(tmp_path))).read_text("utf-8"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert run.info.status == "FINISHED"
    assert [row["question"] for row in rows] == ["yes", "no"]
    assert [row["answer"] for row in rows] == ["yes", ""]
    assert run.data.metrics == done.metrics
    assert (done.metrics["answers"], done.metrics["failures"], done.metrics["total_tokens"]) == (1, 1, 3)
    assert run.data.params["evaluated_model_id"] == evaluation.entry.model_id
    assert run.data.params["params.temperature"] == "0.0"


def test_the_run_of_an_enclosing_mlflow_run_is_used(
    tiny: TinyStore, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(tiny.uri)
    given = client.create_run(Store(tiny.uri).experiment_id()).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)

    assert evaluation.run(Store(tiny.uri), read_questions(evaluation.file)).run_id == given


def test_a_model_that_does_not_load_fails_the_run_and_keeps_earlier_answers(
    tiny: TinyStore, evaluation: Evaluation
) -> None:
    asked = [(Message("user", text),) for text in ("yes", "broken", "yes")]
    with pytest.raises(UserError, match="could not be loaded"):
        evaluation.run(Store(tiny.uri), asked)

    client = MlflowClient(tiny.uri)
    run = client.search_runs([Store(tiny.uri).experiment_id()], max_results=1)[0]
    assert (run.info.status, run.data.metrics["answers"]) == ("FAILED", 1)
