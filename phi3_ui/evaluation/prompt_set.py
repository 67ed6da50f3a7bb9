"""Prompt sets as values: requests with the expectations of their answers, and the digest that identifies a version."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from phi3_ui.chat.types import Message, Role

Messages = tuple[Message, ...]

EXPECTED_RESPONSE = "expected_response"
"""The expectation that most scorers compare with; MLflow's own scorers and UI use the same name."""
_KEY_CHARS = 32


@dataclass(frozen=True)
class PromptRecord:
    """One request of a prompt set."""

    messages: Messages
    """The last message is the user's question."""
    expectations: Mapping[str, Any] = field(default_factory=dict)
    """The expectations of the answer, by name, as JSON values."""
    source_trace_id: str = ""
    """The trace of the chat that the request was taken from; empty if there is none."""

    @property
    def key(self) -> str:
        """Identifies the request by its messages, so that a set contains each request once."""
        return _digest(json.dumps(self.inputs, sort_keys=True))[:_KEY_CHARS]

    @property
    def inputs(self) -> dict[str, Any]:
        """The request in the form used by MLflow's datasets and traces."""
        return {"messages": [{"role": message.role, "content": message.content} for message in self.messages]}

    @property
    def question(self) -> str:
        """The last message."""
        return self.messages[-1].content

    def as_json(self) -> dict[str, Any]:
        """Return the record in the form of a .jsonl line that `questions.read_records` reads."""
        source = {"source_trace_id": self.source_trace_id} if self.source_trace_id else {}
        return {**self.inputs, "expectations": dict(self.expectations), **source}


@dataclass(frozen=True)
class PromptSet:
    """One immutable version of a prompt set."""

    id: str
    """Id of MLflow's evaluation dataset; empty for a file that is not stored as one."""
    name: str
    version: int
    """Counted from 1; 0 for a file that was not stored."""
    records: tuple[PromptRecord, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of requests and expectations, in order."""
        return compute_digest(self.records)


def compute_digest(records: Iterable[PromptRecord]) -> str:
    """Return the digest of a version with these records, regardless of their sources."""
    lines = [json.dumps([record.inputs, dict(record.expectations)], sort_keys=True) for record in records]
    return _digest("\n".join(lines))


def write_records(records: Iterable[PromptRecord]) -> str:
    """Return the records as JSON Lines."""
    return "".join(f"{json.dumps(record.as_json(), ensure_ascii=False)}\n" for record in records)


def merge_duplicates(records: Iterable[PromptRecord]) -> list[PromptRecord]:
    """Keep each request once, at its first position, with the expectations of all its records; later ones take precedence."""
    merged = dict[str, PromptRecord]()
    for record in records:
        if before := merged.get(record.key):
            record = PromptRecord(
                before.messages, {**before.expectations, **record.expectations}, before.source_trace_id
            )
        merged[record.key] = record
    return list(merged.values())


def parse_messages(value: Any) -> Messages:
    """Parse messages in OpenAI's form; empty if they could not be sent to a model."""
    if not isinstance(value, list) or not all(_is_message(message) for message in value):
        return ()
    return tuple(Message(message["role"], message["content"]) for message in value)


def clean_expectations(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop empty expectations: MLflow cannot remove an expectation, so an empty one counts as removed."""
    return {name: value for name, value in values.items() if value not in (None, "")}


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and value.get("role") in get_args(Role) and isinstance(value.get("content"), str)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
