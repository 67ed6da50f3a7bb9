"""One person's conversations in memory: what is listed and searched, and the figures of every turn."""

import json
import threading
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities import TraceInfo

from phi3_ui.errors import UserError
from phi3_ui.store.conversations import traces
from phi3_ui.store.conversations.operations import ConversationDeletion, Operation, TagChange, TurnRecord


@dataclass(frozen=True)
class ConversationSummary:
    """A conversation in a list; `at` is when its last question was asked, in seconds since 1970, UTC."""

    id: str
    title: str
    last_asked_at: float


@dataclass(frozen=True)
class TurnMetrics:
    """What a turn took, as charts show it; `at` as in Listed. Tokens are None where they are unknown."""

    conversation_id: str
    turn_id: str
    asked_at: float
    model: str
    model_id: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    time_to_first_token: float | None
    tokens_per_second: float | None


@dataclass
class _Turn:
    text: str  # question and answer, folded for search
    figures: TurnMetrics


@dataclass
class _Known:
    """One conversation of the index. `title` is the first question's, unless it was renamed."""

    title: str = ""
    renamed: str = ""
    first: float = float("inf")
    root: str = ""  # the turn asked first: marks are kept with it
    turns: dict[str, _Turn] = field(default_factory=dict)

    @property
    def at(self) -> float:
        return max(turn.figures.asked_at for turn in self.turns.values())


class ConversationIndex:
    """One person's conversations."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.known: dict[str, _Known] = {}
        self.gone: dict[str, _Known | None] = {}  # deleted here, whatever the store still says
        self.looked = 0.0
        self.looking = False
        self.some = threading.Event()  # the newest were read
        self.whole = threading.Event()  # all of the store was read
        self.error: UserError | None = None

    def add(self, info: TraceInfo, text: str | None = None) -> bool:
        """Take in a trace; False if it was known, or is none of ours."""
        turn_id = info.trace_metadata.get(traces.TURN)
        conversation = info.trace_metadata.get(traces.SESSION)
        if not turn_id or not conversation or conversation in self.gone:
            return False
        known = self.known.setdefault(conversation, _Known())
        known.renamed = info.tags.get(traces.TITLE, known.renamed)
        new = turn_id not in known.turns
        question, answer = info.request_preview or "", info.response_preview or ""
        self._put(known, turn_id, question, text or f"{question}\n{answer}", _figures_of(info, turn_id, conversation))
        return new

    def _known(self, conversation: str) -> _Known:
        return self.known.setdefault(conversation, _Known())

    def take(self, op: Operation) -> None:
        """Take in what is on its way to the store."""
        if isinstance(op, ConversationDeletion):
            self.gone[op.conversation] = self.known.pop(op.conversation, None)
        elif isinstance(op, TurnRecord):
            turn = op.turn
            known = self.gone[op.conversation] if op.conversation in self.gone else self._known(op.conversation)
            if known is None:
                return
            text = f"{turn.question}\n{turn.answer.text if turn.answer else ''}"
            self._put(known, turn.id, turn.question, text, _figures_of_record(op))
        elif isinstance(op, TagChange) and op.key == traces.TITLE and op.conversation in self.known:
            self.known[op.conversation].renamed = op.value

    @staticmethod
    def _put(known: _Known, turn_id: str, question: str, text: str, figures: TurnMetrics) -> None:
        known.turns[turn_id] = _Turn(text.casefold(), figures)
        if figures.asked_at < known.first:
            known.first, known.title, known.root = figures.asked_at, " ".join(question.split()), turn_id


def holds(known: _Known, words: list[str]) -> bool:
    if not words:
        return True
    texts = [(known.renamed or known.title).casefold(), *(turn.text for turn in known.turns.values())]
    return all(any(word in text for text in texts) for word in words)


def _figures_of(info: TraceInfo, turn_id: str, conversation: str) -> TurnMetrics:
    metadata = info.trace_metadata
    return _figures(
        conversation,
        turn_id,
        info.request_time / 1000,
        metadata.get(traces.MODEL_ID, ""),
        json.loads(metadata.get(traces.FIGURES) or "{}"),
        json.loads(metadata.get("mlflow.trace.tokenUsage") or "{}"),
    )


def _figures_of_record(record: TurnRecord) -> TurnMetrics:
    turn = record.turn
    usage = turn.answer.usage if turn.answer else None
    tokens = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens} if usage else {}
    at, model_id = (turn.request.asked_at, turn.request.model_id) if turn.request else (record.ended, "")
    return _figures(record.conversation, turn.id, at, model_id, traces.figures(record), tokens)


def _figures(
    conversation: str, turn_id: str, at: float, model_id: str, figures: dict[str, Any], tokens: dict[str, int]
) -> TurnMetrics:
    return TurnMetrics(
        conversation_id=conversation,
        turn_id=turn_id,
        asked_at=at,
        model=figures.get("model", ""),
        model_id=model_id,
        finish_reason=figures.get("finish_reason", ""),
        prompt_tokens=tokens.get("input_tokens"),
        completion_tokens=tokens.get("output_tokens"),
        time_to_first_token=figures.get("time_to_first_token"),
        tokens_per_second=figures.get("tokens_per_second"),
    )
