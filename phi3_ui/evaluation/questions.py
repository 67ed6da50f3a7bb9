"""Read the requests of an evaluation, and the expectations of their answers, from a file."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phi3_ui.chat.types import Message
from phi3_ui.errors import UserError
from phi3_ui.evaluation.prompt_set import Messages, PromptRecord, clean_expectations, parse_messages

_EXPECTED = "expected_"
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
"""Not str.splitlines: questions and JSON strings may contain U+2028, form feeds and other characters that it splits at."""


def read_records(file: Path, system: str = "", name: str | None = None) -> list[PromptRecord]:
    """Read one request per line; `system` becomes the system prompt of lines that have none.

    A .txt file has one question per line; .jsonl and .csv have it in the field `prompt`, and .jsonl may have
    `messages` instead. Expectations are in fields whose names begin with `expected_` or, in .jsonl, in the object
    `expectations`. Lines end with CR, LF or CRLF. A .csv file is parsed by Python's csv module; malformed quotes are rejected.

    Args:
        file: The file.
        system: The system prompt.
        name: The name of the file in errors, for instance of an upload; by default its path.

    Raises:
        UserError: questions_unreadable, question_missing, no_questions.
    """
    name = name or str(file)
    try:
        lines = list(_parse_lines(Path(name).suffix, file.read_bytes().decode("utf-8-sig")))
    except (OSError, ValueError, csv.Error) as error:
        detail = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise UserError("questions_unreadable", file=name, detail=detail) from error
    if not lines:
        raise UserError("no_questions", file=name)
    records = []
    for number, line in lines:
        messages = _parse_request(line)
        if not messages or messages[-1].role != "user" or not messages[-1].content.strip():
            raise UserError("question_missing", file=name, line=number)
        is_complete = messages[0].role == "system" or not system.strip()
        records.append(
            PromptRecord(
                messages if is_complete else (Message("system", system), *messages),
                _parse_expectations(line),
                str(line.get("source_trace_id") or "") if isinstance(line, dict) else "",
            )
        )
    return records


def _parse_lines(suffix: str, text: str) -> Iterator[tuple[int, Any]]:
    """Yield number and content of each non-blank line. ValueError: unsupported file type, invalid JSON, or wrong columns."""
    match suffix.lower():
        case ".txt":
            yield from ((number, line.strip()) for number, line in _number_lines(text))
        case ".jsonl":
            yield from ((number, _parse_json(number, line)) for number, line in _number_lines(text))
        case ".csv":
            # newline="" preserves line breaks within a field.
            reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
            if text.strip() and "prompt" not in (reader.fieldnames or ()):
                raise ValueError("there is no column named prompt; columns are separated by commas")
            for row in reader:
                if None in row:
                    raise ValueError(f"line {reader.line_num} has more columns than the first line")
                yield reader.line_num, row
        case other:
            raise ValueError(f"unsupported file type {other}" if other else "the file name has no extension")


def _number_lines(text: str) -> Iterator[tuple[int, str]]:
    """Return number and content of each non-blank line."""
    return ((number, line) for number, line in enumerate(_LINE_BREAK.split(text), 1) if line.strip())


def _parse_json(number: int, line: str) -> Any:
    try:
        value = json.loads(line)
        json.dumps(
            value, ensure_ascii=False
        ).encode()  # JSON can escape lone surrogates, which cannot be sent to a model
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} is not JSON: {error.msg}, at character {error.colno}") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"line {number} contains a lone surrogate, half of a character") from error
    except RecursionError as error:
        raise ValueError(f"line {number} is nested too deeply") from error
    return value


def _parse_request(line: Any) -> Messages:
    """Return the messages of a line; empty if it has none that could be sent to a model."""
    if isinstance(line, str):
        return (Message("user", line),)
    if not isinstance(line, dict):
        return ()
    if isinstance(prompt := line.get("prompt"), str):
        return (Message("user", prompt),)
    return parse_messages(line.get("messages"))


def _parse_expectations(line: Any) -> dict[str, Any]:
    if not isinstance(line, dict):
        return {}
    given = line.get("expectations")
    named = {name: value for name, value in line.items() if isinstance(name, str) and name.startswith(_EXPECTED)}
    return clean_expectations({**(given if isinstance(given, dict) else {}), **named})
