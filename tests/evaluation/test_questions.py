"""Reading the requests of an evaluation from a file."""

import csv
import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from phi3_ui.chat.types import Message
from phi3_ui.errors import UserError
from phi3_ui.evaluation.prompt_set import Messages, write_records
from phi3_ui.evaluation.questions import read_records


def _read(file: Path, system: str = "") -> list[Messages]:
    return [record.messages for record in read_records(file, system)]


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
    requests = _read(_write(tmp_path, name, text))

    assert requests == [(Message("user", "What is 2 + 2?"),), (Message("user", "Și “cât” face 3?"),)]


def test_a_line_may_be_a_conversation_with_its_own_system_prompt(tmp_path: Path) -> None:
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}
    text = "\n".join(json.dumps(line) for line in [{"messages": [system, user]}, {"prompt": "Bye"}])

    first, second = _read(_write(tmp_path, "q.jsonl", text), system="Be long.")

    assert first == (Message("system", "Be brief."), Message("user", "Hi"))
    assert second == (Message("system", "Be long."), Message("user", "Bye"))


_SPLITLINES_ONLY = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""The characters that str.splitlines splits at, besides CR and LF."""


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_lines_end_at_cr_and_lf_only(tmp_path: Path, kind: str, ending: str) -> None:
    questions = [f"first{char}still first" for char in _SPLITLINES_ONLY] + ["second"]
    lines = {
        "txt": questions,
        "jsonl": [json.dumps({"prompt": question}, ensure_ascii=False) for question in questions],
        "csv": ["prompt", *questions],
    }[kind]

    requests = _read(_write(tmp_path, f"q.{kind}", "".join(line + ending for line in lines)))

    assert [message.content for (message,) in requests] == questions


@settings(max_examples=30)
@given(st.lists(st.text(max_size=20).filter(str.strip), min_size=1, max_size=4))
@example([f"a{char}b" for char in ["\r", "\n", "\r\n", *_SPLITLINES_ONLY, '"', ","]])
def test_a_csv_file_written_by_python_is_read_back(questions: list[str]) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([["id", "prompt"], *enumerate(questions)])
    with tempfile.TemporaryDirectory() as folder:
        requests = _read(_write(Path(folder), "q.csv", buffer.getvalue()))

    assert [message.content for (message,) in requests] == questions


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("q.txt", " \n", "contains no questions"),
        ("q.jsonl", '{"prompt": "hi"}\n{"question": "hi"}\n', "Line 2 of .* has no question"),
        ("q.jsonl", '{"messages": [{"role": "assistant", "content": "hi"}]}', "Line 1 of .* has no question"),
        ("q.jsonl", '{"messages": [{"role": "tool", "content": "hi"}]}', "Line 1 of .* has no question"),
        ("q.jsonl", '["hi"]', "Line 1 of .* has no question"),
        ("q.jsonl", "\n\nhi", "cannot be read .line 3 is not JSON"),
        ("q.jsonl", '{"prompt": "\\ud800"}', "line 1 contains a lone surrogate"),
        ("q.jsonl", "[" * 100_000, "line 1 is nested too deeply"),
        ("q.csv", "question\nhi\n", "there is no column named prompt"),
        ("q.csv", "id;prompt\n1;hi\n", "columns are separated by commas"),
        ("q.csv", "id,prompt\n1,hi, there\n", "line 2 has more columns than the first line"),
        ("q.csv", "id,prompt\n1,\n", "Line 2 of .* has no question"),
        ("q.csv", 'prompt\n"hi', "cannot be read"),
        ("q.xlsx", "hi", "unsupported file type .xlsx"),
        ("q", "hi", "has no extension"),
    ],
)
def test_a_file_without_a_valid_question_is_refused(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        _read(_write(tmp_path, name, text))


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        _read(tmp_path / "none.txt")
    (tmp_path / "image.txt").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UserError, match="cannot be read"):
        _read(tmp_path / "image.txt")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.csv", "prompt,expected_response,id\nHi,Hello,1\nBye,,2\n"),
        ("q.jsonl", '{"prompt": "Hi", "expected_response": "Hello"}\n{"prompt": "Bye", "expected_response": ""}\n'),
        ("q.jsonl", '{"prompt": "Hi", "expectations": {"expected_response": "Hello"}}\n{"prompt": "Bye"}\n'),
    ],
)
def test_expectations_are_read(tmp_path: Path, name: str, text: str) -> None:
    records = read_records(_write(tmp_path, name, text))

    assert [record.expectations for record in records] == [{"expected_response": "Hello"}, {}]


def test_written_records_are_read_back(tmp_path: Path) -> None:
    text = (
        '{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q\\u2028"}], "expected_n": 1}'
    )
    records = read_records(_write(tmp_path, "q.jsonl", text))

    assert read_records(_write(tmp_path, "again.jsonl", write_records(records))) == records


def test_errors_name_an_uploaded_file_by_its_original_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^mine\.txt contains no questions"):
        read_records(_write(tmp_path, "upload", ""), name="mine.txt")
