"""Conversations found again in the traces: each person's own, and nobody else's.

What is listed and searched is held in memory, read from the store once and kept up with it: MLflow's own search of texts
takes minutes where there are thousands of traces.
"""

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace

from mlflow import MlflowClient
from mlflow.entities import Trace, TraceInfo

from phi3_ui.chat.conversation import Conversation, Turn
from phi3_ui.errors import UserError
from phi3_ui.store.conversations import traces
from phi3_ui.store.conversations.index import ConversationIndex, ConversationSummary, TurnMetrics, holds
from phi3_ui.store.conversations.operations import (
    ConversationDeletion,
    FeedbackChange,
    Operation,
    TagChange,
    TurnRecord,
)
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.errors import translate_store_errors

_PAGE = 500
_PEOPLE = 64  # whose lists are held at once
_FRESH = 3.0  # seconds that a list is good for without a look at the store
_PATIENCE = 0.3  # seconds that the very first list of a person is waited for; it goes on growing after that
_UNDO = 8.0  # seconds in which a deletion may be taken back

logger = logging.getLogger(__name__)

__all__ = ["ConversationSummary", "History", "TurnMetrics"]


class History:
    """The conversations of one store, written through `recorder`. A person is whoever the app says they are."""

    def __init__(self, tracking_uri: str, experiment_id: Callable[[], str], recorder: Recorder) -> None:
        self._tracking_uri = tracking_uri
        self._experiment_id = experiment_id
        self._recorder = recorder
        self._lock = threading.Lock()
        self._people: OrderedDict[str, ConversationIndex] = OrderedDict()

    def list_conversations(self, person: str, query: str = "") -> list[ConversationSummary]:
        """Those whose title or text holds all words of `query`, newest first. UserError: store_unreachable."""
        words = query.casefold().split()
        held = self._person(person)
        with held.lock:
            found = [
                ConversationSummary(id_, known.renamed or known.title, known.at)
                for id_, known in held.known.items()
                if holds(known, words)
            ]
        return sorted(found, key=lambda one: one.last_asked_at, reverse=True)

    def list_turn_metrics(self, person: str) -> list[TurnMetrics]:
        """Of every turn of this person, oldest first."""
        held = self._person(person)
        with held.lock:
            found = [turn.figures for known in held.known.values() for turn in known.turns.values()]
        return sorted(found, key=lambda one: one.asked_at)

    def wait_until_loaded(self, person: str, seconds: float) -> bool:
        """Wait until all that the store holds of this person was read; False if it was not by then."""
        return self._person(person).whole.wait(seconds)

    def load(self, person: str, conversation: str) -> Conversation:
        """A person's conversation, all branches of it, as it was shown last. UserError: no_such_chat, store_unreachable."""
        waiting = [op for op in self._recorder.list_pending(person) if op.conversation == conversation]
        if any(isinstance(op, ConversationDeletion) for op in waiting) or conversation in self._person(person).gone:
            raise UserError("no_such_chat")
        found, shown = dict[str, Turn](), ""
        for trace in self._stored(person, conversation):
            if turn := traces.turn_from(trace):
                found[turn.id] = turn
                shown = trace.info.tags.get(traces.SHOWN, shown)
        feedback = {op.turn_id: op.feedback for op in waiting if isinstance(op, FeedbackChange)}
        found |= {op.turn.id: op.turn for op in waiting if isinstance(op, TurnRecord)}
        shown = next(
            (op.value for op in reversed(waiting) if isinstance(op, TagChange) and op.key == traces.SHOWN), shown
        )
        if not found:
            raise UserError("chat_busy" if self._is_in_progress(person, conversation) else "no_such_chat")
        whole = _tree(found.values())
        for turn_id, given in feedback.items():
            whole = whole.with_feedback(turn_id, given) if turn_id in found else whole
        return _as_shown(whole, shown)

    def _is_in_progress(self, person: str, conversation: str) -> bool:
        held = self._person(person)
        with held.lock:
            known = held.known.get(conversation)
            return known is not None and any(map(self._recorder.is_in_progress, known.turns))

    def get_title(self, person: str, conversation: str) -> str:
        """What the conversation is called; empty if it is none of this person's."""
        held = self._person(person)
        with held.lock:
            known = held.known.get(conversation)
            return (known.renamed or known.title) if known else ""

    def apply(self, op: Operation) -> None:
        """Take in what was just given to the recorder."""
        held = self._person(op.person)
        with held.lock:
            held.take(op)

    def rename(self, person: str, conversation: str, title: str) -> None:
        """UserError: no_such_chat. An empty title is the first question's again."""
        self._mark(person, conversation, traces.TITLE, " ".join(title.split())[:200])

    def save_shown_branch(self, person: str, conversation: str, shown: Conversation) -> None:
        """Remember which branch is shown, until another turn is asked."""
        self._mark(person, conversation, traces.SHOWN, json.dumps([shown.leaf, len(shown.tree)]))

    def delete(self, person: str, conversation: str) -> None:
        """It is gone from here at once, and from the store once it can be taken back no more. UserError: no_such_chat."""
        self._root(person, conversation)
        deletion = ConversationDeletion(person, conversation, time.time() + _UNDO)
        self._recorder.submit(deletion)
        self.apply(deletion)

    def restore(self, person: str, conversation: str) -> bool:
        """Take back a deletion; False if it is too late."""
        if not self._recorder.cancel_deletion(person, conversation):
            return False
        held = self._person(person)
        with held.lock:
            if known := held.gone.pop(conversation, None):
                held.known[conversation] = known
                return True
        with self._lock:
            self._people.pop(person, None)  # it was passed over when all was read: read again
        return True

    def is_deleted(self, person: str, conversation: str) -> bool:
        """Was it deleted here? What is asked in it elsewhere, on another page, belongs to a new one."""
        held = self._person(person)
        with held.lock:
            return conversation in held.gone

    def is_restorable(self, person: str, conversation: str) -> bool:
        """May its deletion still be taken back?"""
        waiting = self._recorder.list_pending(person)
        return any(isinstance(op, ConversationDeletion) and op.conversation == conversation for op in waiting)

    def _mark(self, person: str, conversation: str, key: str, value: str) -> None:
        mark = TagChange(person, conversation, self._root(person, conversation), key, value)
        self._recorder.submit(mark)
        self.apply(mark)

    def _root(self, person: str, conversation: str) -> str:
        held = self._person(person)
        with held.lock:
            if conversation not in held.known:
                raise UserError("no_such_chat")
            return held.known[conversation].root

    def _stored(self, person: str, conversation: str) -> Iterable[Trace]:
        query = f"{_of(person)} AND metadata.`{traces.SESSION}` = '{_quoted(conversation)}'"
        with translate_store_errors(self._tracking_uri):
            return list(self._pages(query, include_spans=True))

    def _person(self, person: str) -> ConversationIndex:
        """Up to date, as far as the store could be asked; what was read before stays where it cannot be."""
        with self._lock:
            held = self._people.get(person)
            if held is None:
                held = self._people[person] = ConversationIndex()
                while len(self._people) > _PEOPLE:
                    self._people.popitem(last=False)
                for op in self._recorder.list_pending(person):
                    held.take(op)
                threading.Thread(target=self._read_all, args=(person, held), name="history", daemon=True).start()
                first = True
            else:
                self._people.move_to_end(person)
                first = False
        if first:
            held.some.wait(_PATIENCE)
        elif held.whole.is_set() and not held.looking and time.monotonic() - held.looked > _FRESH:
            held.looking = True  # nobody waits for a store that may be slow; the next look at the list has it
            threading.Thread(target=self._look, args=(person, held), name="history", daemon=True).start()
        return held

    def _read_all(self, person: str, held: ConversationIndex) -> None:
        """Every trace of a person, newest first; then the whole text of those that are longer than their previews."""
        try:
            long = list[str]()
            with translate_store_errors(self._tracking_uri):
                for at, trace in enumerate(self._pages(_of(person), include_spans=False)):
                    with held.lock:
                        held.add(trace.info)
                    if at + 1 == _PAGE:
                        held.some.set()
                    if _is_cut(trace.info):
                        long.append(trace.info.trace_id)
                held.looked = time.monotonic()
                held.some.set()
                held.whole.set()
                for trace_id in long:
                    self._read_text(held, trace_id)
        except UserError as error:
            logger.warning("The chats of a person could not be read: %s", error)
            with self._lock:
                self._people.pop(person, None)  # the next look tries again
        except Exception:
            logger.exception("the history failed")

    def _read_text(self, held: ConversationIndex, trace_id: str) -> None:
        trace = self._client.get_trace(trace_id)
        if turn := traces.turn_from(trace):
            with held.lock:
                held.add(trace.info, f"{turn.question}\n{turn.answer.text if turn.answer else ''}")

    def _look(self, person: str, held: ConversationIndex) -> None:
        """What others wrote meanwhile: another server, on the same store."""
        try:
            held.looked = time.monotonic()
            with translate_store_errors(self._tracking_uri):
                for trace in self._pages(_of(person), include_spans=False, size=20):
                    with held.lock:
                        if not held.add(trace.info):
                            return
        except UserError as error:
            logger.info("The store was not asked for new chats: %s", error)
        finally:
            held.looking = False

    def _pages(self, query: str, include_spans: bool, size: int = _PAGE) -> Iterable[Trace]:
        token, experiment = None, self._experiment_id()
        while True:
            page = self._client.search_traces(
                locations=[experiment],
                filter_string=query,
                max_results=size,
                order_by=["timestamp_ms DESC"],
                page_token=token,
                include_spans=include_spans,
            )
            yield from page
            token = page.token
            if not token:
                return

    @property
    def _client(self) -> MlflowClient:
        return MlflowClient(self._tracking_uri)


def _of(person: str) -> str:
    return f"metadata.`{traces.USER}` = '{_quoted(person)}'"


def _quoted(value: str) -> str:
    """UserError: no_such_chat for what would end the quotes; no id of ours does."""
    if "'" in value or "\\" in value:
        raise UserError("no_such_chat")
    return value


def _tree(turns: Iterable[Turn]) -> Conversation:
    """The turns in the order in which they were asked, parents first; those whose parent is missing begin a branch."""
    ordered = sorted(turns, key=lambda turn: turn.request.asked_at if turn.request else 0.0)
    ids, placed, rest = {turn.id for turn in ordered}, list[Turn](), ordered
    while rest:
        there = {turn.id for turn in placed}
        ready = [turn for turn in rest if turn.parent is None or turn.parent in there or turn.parent not in ids]
        if not ready:
            break  # a ring, which no app of ours writes
        placed += ready
        rest = [turn for turn in rest if turn not in ready]
    whole = Conversation(tuple(_rooted(turn, ids) for turn in placed))
    return whole.with_branch_of(placed[-1].id) if placed else whole


def _rooted(turn: Turn, ids: set[str]) -> Turn:
    return turn if turn.parent is None or turn.parent in ids else replace(turn, parent=None)


def _as_shown(whole: Conversation, shown: str) -> Conversation:
    """With the branch that a mark names, if nothing was asked since."""
    try:
        leaf, count = json.loads(shown)
    except (ValueError, TypeError):
        return whole
    known = leaf is None or any(turn.id == leaf for turn in whole.tree)
    return replace(whole, leaf=leaf) if known and count == len(whole.tree) else whole


def _is_cut(info: TraceInfo) -> bool:
    return max(len(info.request_preview or ""), len(info.response_preview or "")) >= traces.PREVIEW
