"""Prompt sets as values: requests with what is expected of their answers, and the digest that identifies a version."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from phi3_ui.chat.types import Message, Role

Messages = tuple[Message, ...]

EXPECTED_RESPONSE = "expected_response"
"""The expectation that most scorers compare with; MLflow's own scorers and its UI know this name, too."""
_KEY_CHARS = 32


@dataclass(frozen=True)
class PromptRecord:
    """One request of a prompt set."""

    messages: Messages
    """The last one is the user's question."""
    expectations: Mapping[str, Any] = field(default_factory=dict)
    """What is expected of the answer, by name, as JSON values."""
    source_trace_id: str = ""
    """The trace of the chat it was taken from; empty if it was not."""

    @property
    def key(self) -> str:
        """Identifies the request by its messages, so that a set holds each request once."""
        return _digest(json.dumps(self.inputs, sort_keys=True))[:_KEY_CHARS]

    @property
    def inputs(self) -> dict[str, Any]:
        """As MLflow's datasets and traces hold it."""
        return {"messages": [{"role": message.role, "content": message.content} for message in self.messages]}

    @property
    def question(self) -> str:
        """The last message."""
        return self.messages[-1].content

    def as_json(self) -> dict[str, Any]:
        """The record as a line of a .jsonl file that `questions.read_records` reads."""
        source = {"source_trace_id": self.source_trace_id} if self.source_trace_id else {}
        return {**self.inputs, "expectations": dict(self.expectations), **source}


@dataclass(frozen=True)
class PromptSet:
    """One immutable version of a prompt set."""

    id: str
    """Of MLflow's evaluation dataset; empty for a file that was not stored as one."""
    name: str
    version: int
    """Counted from 1; 0 for a file that was not stored."""
    records: tuple[PromptRecord, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of requests and expectations, in their order."""
        return compute_digest(self.records)


def compute_digest(records: Iterable[PromptRecord]) -> str:
    """The digest of a version with these records; where they come from does not matter."""
    lines = [json.dumps([record.inputs, dict(record.expectations)], sort_keys=True) for record in records]
    return _digest("\n".join(lines))


def write_records(records: Iterable[PromptRecord]) -> str:
    """The records as JSON lines."""
    return "".join(f"{json.dumps(record.as_json(), ensure_ascii=False)}\n" for record in records)


def merge_duplicates(records: Iterable[PromptRecord]) -> list[PromptRecord]:
    """Each request once, where it first comes, with the expectations of all its records; later ones win."""
    merged = dict[str, PromptRecord]()
    for record in records:
        if before := merged.get(record.key):
            record = PromptRecord(
                before.messages, {**before.expectations, **record.expectations}, before.source_trace_id
            )
        merged[record.key] = record
    return list(merged.values())


def parse_messages(value: Any) -> Messages:
    """Messages in OpenAI's form; empty if they are none that a model could be sent."""
    if not isinstance(value, list) or not all(_is_message(message) for message in value):
        return ()
    return tuple(Message(message["role"], message["content"]) for message in value)


def clean_expectations(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that are empty: MLflow cannot remove an expectation, so an empty one counts as removed."""
    return {name: value for name, value in values.items() if value not in (None, "")}


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and value.get("role") in get_args(Role) and isinstance(value.get("content"), str)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
