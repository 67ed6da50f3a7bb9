"""One visitor's conversations in memory, for lists and searches, with the metrics of every turn."""

import threading
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from mlflow.entities import TraceInfo

from phi3_ui.chat.comparison import Verdict
from phi3_ui.chat.conversation import make_title
from phi3_ui.store.conversations.operations import ConversationDeletion, Step, TagChange, TurnRecord, VoteRecord
from phi3_ui.store.conversations.search_text import fold_text
from phi3_ui.store.conversations.summaries import ConversationSummary, TurnMetrics, TurnSummary, summarize_record
from phi3_ui.store.conversations.trace_reader import parse_summary, parse_verdict
from phi3_ui.store.conversations.traces import PINNED_TAG, TITLE_TAG


@dataclass
class _IndexedConversation:
    """All known turns of one conversation, at least one."""

    custom_title: str = ""
    folded_title: str = ""
    """The custom title, folded for `matches`."""
    is_pinned: bool = False
    turns: dict[str, TurnSummary] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    """The verdicts on turns whose rounds have a vote, by turn id; the first vote is final."""

    @cached_property  # until the turns change: a list of thousands is rendered again after each click
    def root(self) -> TurnSummary:
        """The first question asked. Turns may have equal times; a turn with a parent is never the first."""
        roots = [turn for turn in self.turns.values() if turn.parent_id not in self.turns] or [*self.turns.values()]
        return min(roots, key=lambda turn: (turn.metrics.asked_at, turn.metrics.turn_id))

    @cached_property
    def first_title(self) -> str:
        return make_title(self.root.question)

    @cached_property
    def last_asked_at(self) -> float:
        return max(turn.metrics.asked_at for turn in self.turns.values())

    @property
    def title(self) -> str:
        return self.custom_title or self.first_title

    def put(self, turn: TurnSummary) -> None:
        """Add or replace a turn, with its text folded; a complete text is never replaced by a preview of it."""
        known = self.turns.get(turn.metrics.turn_id)
        text = max(turn.text, known.text if known else "", key=len)
        question = max(turn.question, known.question if known else "", key=len)
        self.turns[turn.metrics.turn_id] = replace(turn, question=question, text=text)
        for name in ("root", "first_title", "last_asked_at"):
            vars(self).pop(name, None)

    def set_title(self, title: str) -> None:
        if title != self.custom_title:
            self.custom_title, self.folded_title = title, fold_text(title)

    def set_tag(self, key: str, value: str) -> None:
        if key == TITLE_TAG:
            self.set_title(value)
        elif key == PINNED_TAG:
            self.is_pinned = value == "true"

    def vote(self, vote: VoteRecord) -> None:
        self.verdicts = {**vote.list_verdicts(), **self.verdicts}

    def matches(self, words: list[str]) -> bool:
        if not words:
            return True
        # A default title is a question, so the turns contain it.
        texts = [self.folded_title, *(turn.text for turn in self.turns.values())]
        return all(any(word in text for text in texts) for word in words)


class ConversationIndex:
    """One visitor's conversations. Thread-safe: the methods of this class change all state under one lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._conversations: dict[str, _IndexedConversation] = {}
        self._deleted: dict[str, _IndexedConversation | None] = {}  # hidden, even if still in the store
        self._seen_traces = set[str]()
        self._unreadable: dict[str, str] = {}  # conversation id by trace id; "" if unknown
        self._refreshing = False
        self._refreshed_at = self._searched_at = float("-inf")  # of time.monotonic()
        self._loaded = False
        self.first_page_loaded = threading.Event()
        """Set when the newest turns of the store are in the index."""
        self.fully_loaded = threading.Event()
        """Set when all turns of the store are in the index."""
        self.refreshed = threading.Event()
        """Set while no refresh is running."""
        self.refreshed.set()

    def list_conversations(self, words: list[str]) -> list[ConversationSummary]:
        """Return the conversations whose title or text contains all of these folded words: pinned ones first, then newest first."""
        with self._lock:
            found = [
                ConversationSummary(id_, conversation.title, conversation.last_asked_at, conversation.is_pinned)
                for id_, conversation in self._conversations.items()
                if conversation.matches(words)
            ]
        return sorted(found, key=lambda summary: (summary.is_pinned, summary.last_asked_at), reverse=True)

    def list_turn_metrics(self) -> list[TurnMetrics]:
        """Return the metrics of every turn, oldest first, except for blind rounds without a vote, whose models they would reveal."""
        with self._lock:
            found = [
                turn.metrics
                for one in self._conversations.values()
                for turn_id, turn in one.turns.items()
                if not turn.is_blind or turn_id in one.verdicts
            ]
        return sorted(found, key=lambda metrics: metrics.asked_at)

    def get_title(self, conversation_id: str) -> str | None:
        """Return the conversation's title; None if there is no such conversation."""
        with self._lock:
            conversation = self._conversations.get(conversation_id)
            return conversation.title if conversation else None

    def get_root_turn_id(self, conversation_id: str) -> str | None:
        """Return the id of the first turn, which carries the conversation's tags; None if there is no such conversation."""
        with self._lock:
            conversation = self._conversations.get(conversation_id)
            return conversation.root.metrics.turn_id if conversation else None

    def list_ids(self) -> set[str]:
        """Return the ids of all conversations that are not deleted."""
        with self._lock:
            return set(self._conversations)

    def list_turn_ids(self, conversation_id: str) -> list[str]:
        """Return the ids of the known turns of a conversation; empty if there is no such conversation."""
        with self._lock:
            conversation = self._conversations.get(conversation_id)
            return list(conversation.turns) if conversation else []

    def list_verdicts(self, conversation_id: str) -> dict[str, Verdict]:
        """Return the verdicts on the answers of a conversation, by turn id."""
        with self._lock:
            conversation = self._conversations.get(conversation_id)
            return dict(conversation.verdicts) if conversation else {}

    def list_rounds(self) -> list[list[tuple[TurnSummary, Verdict | None]]]:
        """Return the answers of each round of the comparisons, in any order, each with its verdict."""
        rounds = dict[str, list[tuple[TurnSummary, Verdict | None]]]()
        with self._lock:
            for one in self._conversations.values():
                for turn_id, turn in one.turns.items():
                    if turn.round:
                        rounds.setdefault(turn.round.round_id, []).append((turn, one.verdicts.get(turn_id)))
        return list(rounds.values())

    def try_vote(self, vote: VoteRecord) -> bool:
        """Apply a vote; return False if one of its turns already has one, or the conversation is unknown."""
        with self._lock:
            conversation = self._conversations.get(vote.conversation_id)
            if conversation is None or not conversation.verdicts.keys().isdisjoint(vote.turn_ids):
                return False
            conversation.vote(vote)
            return True

    def is_deleted(self, conversation_id: str) -> bool:
        """Return whether the conversation is deleted, without the deletion having been undone."""
        with self._lock:
            return conversation_id in self._deleted

    def count_unreadable(self, conversation_id: str | None = None) -> int:
        """Return how many traces were skipped, of one conversation or of all that are not deleted."""
        with self._lock:
            if conversation_id is not None:
                return sum(owner == conversation_id for owner in self._unreadable.values())
            return sum(owner not in self._deleted for owner in self._unreadable.values())

    def apply(self, operation: Step) -> None:
        """Apply an operation that is not in the store yet."""
        conversation_id = operation.conversation_id
        # Fold texts before taking the lock: they may be long.
        summary = _fold(summarize_record(operation)) if isinstance(operation, TurnRecord) else None
        with self._lock:
            if isinstance(operation, ConversationDeletion):
                if conversation_id not in self._deleted:
                    self._deleted[conversation_id] = self._conversations.pop(conversation_id, None)
            elif summary:
                if conversation_id not in self._deleted:
                    self._conversations.setdefault(conversation_id, _IndexedConversation())
                # A turn of a deleted conversation is kept too: the deletion may be undone.
                conversation = self._conversations.get(conversation_id) or self._deleted[conversation_id]
                if conversation:
                    conversation.put(summary)
            elif conversation := self._conversations.get(conversation_id):
                if isinstance(operation, TagChange):
                    conversation.set_tag(operation.key, operation.value)
                elif isinstance(operation, VoteRecord):
                    conversation.vote(operation)

    def add_trace(self, info: TraceInfo, complete: tuple[str, str] | None = None) -> bool:
        """Add a trace of the store; `complete` is its complete question and answer, if known.

        Returns:
            Whether the trace is new.

        Raises:
            UnreadableTraceError: It is a damaged trace of this app. No turn was added.
        """
        with self._lock:
            is_new = info.trace_id not in self._seen_traces
            self._seen_traces.add(info.trace_id)
        turn = parse_summary(info)
        if turn is None:
            return is_new
        if complete:
            turn = replace(turn, question=complete[0], text="\n".join(complete))
        turn = _fold(turn)
        verdict = parse_verdict(info)
        with self._lock:
            if turn.metrics.conversation_id not in self._deleted:
                conversation = self._conversations.setdefault(turn.metrics.conversation_id, _IndexedConversation())
                conversation.put(turn)
                if verdict:  # of two votes, the store keeps the first one
                    conversation.verdicts = {**conversation.verdicts, turn.metrics.turn_id: verdict}
                for key in {TITLE_TAG, PINNED_TAG} & info.tags.keys():
                    conversation.set_tag(key, info.tags[key])
        return is_new

    def add_unreadable(self, trace_id: str, conversation_id: str) -> bool:
        """Count a trace that was skipped. Return whether it is new."""
        with self._lock:
            is_new = trace_id not in self._unreadable
            self._unreadable[trace_id] = conversation_id
            return is_new

    def remove_unreadable(self, trace_id: str) -> None:
        """Stop counting a trace that has become readable."""
        with self._lock:
            self._unreadable.pop(trace_id, None)

    def restore(self, conversation_id: str) -> None:
        """Undo a deletion. If the conversation was not in the index, the index is reloaded from the store."""
        with self._lock:
            if conversation_id not in self._deleted:
                return
            if conversation := self._deleted.pop(conversation_id):
                self._conversations[conversation_id] = conversation
            else:
                self._loaded, self._refreshed_at = False, float("-inf")
                self.first_page_loaded.clear()
                self.fully_loaded.clear()

    def start_refresh(self, max_age: float) -> Literal["load", "update"] | None:
        """Claim the next refresh from the store; the caller must then call `finish_refresh`.

        Returns:
            `load` to read everything, `update` to read only changes, None to read nothing, because the last attempt is less
            than `max_age` seconds old or another thread is refreshing.
        """
        with self._lock:
            if self._refreshing or time.monotonic() - self._refreshed_at <= max_age:
                return None
            self._refreshing = True
            self.refreshed.clear()
            return "update" if self._loaded else "load"

    def claim_search(self, max_age: float) -> bool:
        """Claim the search for new traces: return True if the last one is more than `max_age` seconds old."""
        with self._lock:
            is_due = time.monotonic() - self._searched_at > max_age
            if is_due:
                self._searched_at = time.monotonic()
            return is_due

    def set_loaded(self) -> None:
        """Mark the index as complete: every trace of the store is in it."""
        with self._lock:
            self._loaded, self._searched_at = True, time.monotonic()
        self.first_page_loaded.set()
        self.fully_loaded.set()

    def finish_refresh(self) -> None:
        """End a refresh, successful or not; the next one may start after its `max_age`."""
        with self._lock:
            self._refreshing, self._refreshed_at = False, time.monotonic()
        self.refreshed.set()


def _fold(turn: TurnSummary) -> TurnSummary:
    return replace(turn, text=fold_text(turn.text))
