"""Reads the questions of an evaluation from a file."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from phi3_ui.chat.types import Message, Role
from phi3_ui.errors import UserError

Messages = tuple[Message, ...]

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
"""Not what str.splitlines splits at: questions and JSON strings may contain U+2028, form feeds and the like."""


def read_questions(file: Path, system: str = "") -> list[Messages]:
    """Read one request per line; `system` becomes the system prompt of lines that have none of their own.

    A .txt file has one question per line; .jsonl and .csv have it in the field `prompt`, and .jsonl may have
    `messages` instead. Lines end with CR, LF or CRLF. A .csv file is parsed as by Python's csv; malformed quotes are
    rejected.

    Raises:
        UserError: questions_unreadable, question_missing, no_questions.
    """
    try:
        lines = list(_parse_lines(file, file.read_bytes().decode("utf-8-sig")))
    except (OSError, ValueError, csv.Error) as error:
        detail = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise UserError("questions_unreadable", file=str(file), detail=detail) from error
    if not lines:
        raise UserError("no_questions", file=str(file))
    questions = []
    for number, line in lines:
        messages = _parse_messages(line)
        if not messages or messages[-1].role != "user" or not messages[-1].content.strip():
            raise UserError("question_missing", file=str(file), line=number)
        keep = messages[0].role == "system" or not system.strip()
        questions.append(messages if keep else (Message("system", system), *messages))
    return questions


def _parse_lines(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Number and content of each non-blank line. ValueError for another kind of file, or a line that is not JSON."""
    match file.suffix.lower():
        case ".txt":
            yield from ((number, line.strip()) for number, line in _number_lines(text))
        case ".jsonl":
            yield from ((number, _parse_json(number, line)) for number, line in _number_lines(text))
        case ".csv":
            # Without newline="" line breaks within a field would be changed.
            reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
            yield from ((reader.line_num, row) for row in reader)
        case other:
            raise ValueError(f"its name ends in {other or 'nothing'}")


def _number_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and content of each non-blank line."""
    return ((number, line) for number, line in enumerate(_LINE_BREAK.split(text), 1) if line.strip())


def _parse_json(number: int, line: str) -> Any:
    try:
        value = json.loads(line)
        json.dumps(value, ensure_ascii=False).encode()  # JSON can spell lone surrogates, which no model can be sent
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} is not JSON: {error.msg}, at character {error.colno}") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"line {number} contains half a character, a lone surrogate") from error
    except RecursionError as error:
        raise ValueError(f"line {number} is nested too deeply") from error
    return value


def _parse_messages(line: Any) -> Messages:
    """The messages of a line; empty if it has none that a model could be sent."""
    if isinstance(line, str):
        return (Message("user", line),)
    if not isinstance(line, dict):
        return ()
    if isinstance(prompt := line.get("prompt"), str):
        return (Message("user", prompt),)
    messages = line.get("messages")
    if not isinstance(messages, list) or not all(_is_message(message) for message in messages):
        return ()
    return tuple(Message(message["role"], message["content"]) for message in messages)


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and value.get("role") in get_args(Role) and isinstance(value.get("content"), str)
