"""Read the fields of third-party JSON. Every error is an ImportRefusedError that names the field, such as `mapping.a1.message.content`."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from phi3_ui.export.refusal import ImportRefusedError

MAX_TIMESTAMP = 1e11
"""Seconds since 1970: the year 5138; Python's calendar ends in 9999. Larger numbers are in milliseconds or finer units."""


def read_record(value: Any, place: str) -> dict[str, Any]:
    """Return the value if it is a JSON object; raise ImportRefusedError otherwise."""
    if not isinstance(value, dict):
        raise ImportRefusedError("not_object", place=place)
    return value


def read_list(record: dict[str, Any], name: str, place: str) -> list[Any]:
    """Return the list in a field; empty if it is missing or null."""
    value = record.get(name)
    if value is not None and not isinstance(value, list):
        raise ImportRefusedError("not_list", place=f"{place}.{name}")
    return value or []


def read_text(record: dict[str, Any], name: str, place: str) -> str:
    """Return the text in a field; empty if it is missing or null."""
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise ImportRefusedError("not_text", place=f"{place}.{name}")
    return value or ""


def read_time(record: dict[str, Any], name: str, place: str) -> float | None:
    """Return a time in seconds since 1970, given in seconds, milliseconds or finer units, or in ISO 8601; None if missing."""
    value = record.get(name)
    if value is None or value == "":
        return None
    try:
        seconds = _parse_time(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ImportRefusedError("not_time", place=f"{place}.{name}") from error
    if not 0 <= seconds < MAX_TIMESTAMP:  # also rejects NaN
        raise ImportRefusedError("not_time", place=f"{place}.{name}")
    return seconds


def _parse_time(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError("not a time")
    try:
        seconds = float(value)
    except ValueError:
        return datetime.fromisoformat(value).timestamp()
    for _ in ("milliseconds", "microseconds", "nanoseconds"):
        if seconds >= MAX_TIMESTAMP:
            seconds /= 1000
    return seconds


def reject_content(record: dict[str, Any], names: tuple[str, ...], place: str) -> None:
    """Raise ImportRefusedError if one of these fields, which hold content other than text, is not empty."""
    for name in names:
        if record.get(name) not in (
            None,
            False,
            "",
            "[]",
            [],
            {},
        ):  # "[]": in some training data, lists are JSON strings
            raise ImportRefusedError("only_text", place=f"{place}.{name}")


def read_parts(content: Any, kinds: tuple[str | None, ...], place: str) -> Iterator[str]:
    """Yield the texts of a message's content: a string, or a list of strings and of parts whose `type` is one of `kinds`."""
    if isinstance(content, str):
        yield content
        return
    if not isinstance(content, list):
        raise ImportRefusedError("not_text", place=place)
    for number, part in enumerate(content):
        if isinstance(part, str):
            yield part
            continue
        kind = read_record(part, f"{place}.{number}").get("type")
        if kind not in kinds or not isinstance(part.get("text"), str):
            raise build_kind_refusal(f"{place}.{number}", kind)
        yield part["text"]


def build_kind_refusal(place: str, kind: Any) -> ImportRefusedError:
    """Return the refusal of content that is not text, with the type given in the file."""
    if isinstance(kind, str) and kind:
        return ImportRefusedError("other_kind", place=place, kind=kind)
    return ImportRefusedError("unknown_kind", place=place)


def wrap_reasoning(reasoning: str) -> str:
    """Wrap a model's reasoning in the tags that most open models use, as part of the answer; return "" if it is empty."""
    return f"<think>\n{reasoning.strip()}\n</think>" if reasoning.strip() else ""
