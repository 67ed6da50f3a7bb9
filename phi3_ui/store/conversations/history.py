"""Reads conversations from the traces; each visitor gets only their own.

Lists and searches use an index in memory, which is loaded from the store once and then kept up to date: MLflow's own text
search takes minutes with thousands of traces.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from mlflow.entities import Trace

from phi3_ui.chat.comparison import Verdict
from phi3_ui.chat.conversation import Conversation, Turn
from phi3_ui.errors import UserError
from phi3_ui.store.conversations.branches import build_conversation, restore_shown_branch, serialize_shown_branch
from phi3_ui.store.conversations.change_log import Changes, visitor_key
from phi3_ui.store.conversations.index import ConversationIndex
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.operations import (
    ConversationDeletion,
    FeedbackChange,
    Operation,
    TagChange,
    TurnRecord,
    VoteRecord,
    list_steps,
)
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.conversations.search_text import fold_text
from phi3_ui.store.conversations.summaries import ConversationSummary, TurnMetrics
from phi3_ui.store.conversations.trace_reader import UnreadableTraceError, has_truncated_preview, parse_turn
from phi3_ui.store.conversations.trace_search import LARGEST_PAGE, TraceSearch
from phi3_ui.store.conversations.traces import PINNED_TAG, SESSION_KEY, SHOWN_BRANCH_TAG, TITLE_TAG
from phi3_ui.store.conversations.votes import StoredVote, build_vote

_MAX_VISITORS = 64  # with an index in memory
_MAX_AGE = 3.0  # seconds; an older index is refreshed from the store
_FIRST_PAGE_TIMEOUT = (
    0.3  # seconds that a visitor's very first list waits for the store; the rest loads in the background
)
_UPDATE_TIMEOUT = 0.2  # seconds that a list waits for changes of other servers
_SEARCH_AGE = 30.0  # seconds between searches for traces of programs that keep no change log
_UPDATE_PAGE = 20  # traces
_UNDO_SECONDS = 8.0  # during which a deletion can be undone
_MAX_TITLE = 200  # characters

logger = logging.getLogger(__name__)

__all__ = ["ConversationSummary", "History", "TurnMetrics"]


class History:
    """The conversations of one store, written through `recorder`. Visitor ids are trusted. Thread-safe."""

    def __init__(self, locate: Callable[[], ChatLocation], recorder: Recorder) -> None:
        """`locate`: see Recorder."""
        self._search = TraceSearch(locate)
        self._recorder = recorder
        self._lock = threading.Lock()
        self._indexes: OrderedDict[str, ConversationIndex] = OrderedDict()

    def list_conversations(self, visitor_id: str, query: str = "") -> list[ConversationSummary]:
        """Return the conversations whose title or text contains all words of `query` (see `fold_text`).

        Pinned ones come first, then the newest.
        """
        words = fold_text(query).split()
        if query.strip() and not words:
            return []  # a query of combining marks only, which the search ignores
        index = self._index(visitor_id)
        if index.fully_loaded.is_set():
            index.refreshed.wait(_UPDATE_TIMEOUT)
        return index.list_conversations(words)

    def list_turn_metrics(self, visitor_id: str) -> list[TurnMetrics]:
        """Return the metrics of this visitor's turns, oldest first, except for blind rounds without a vote."""
        return self._index(visitor_id).list_turn_metrics()

    def count_unreadable(self, visitor_id: str, conversation_id: str | None = None) -> int:
        """Return how many turns of the visitor, or of one conversation, were skipped because their traces are damaged."""
        return self._index(visitor_id).count_unreadable(conversation_id)

    def wait_until_loaded(self, visitor_id: str, timeout: float) -> bool:
        """Wait up to `timeout` seconds until all conversations of this visitor in the store are listed; return whether they are."""
        return self._index(visitor_id).fully_loaded.wait(timeout)

    def load(self, visitor_id: str, conversation_id: str) -> Conversation:
        """Return a visitor's conversation with all its branches, as last shown. Damaged turns are skipped and counted.

        Raises:
            UserError: no_such_chat, chat_busy (its only turn is being answered), chat_unreadable (all its turns are
                damaged), store_unreachable.
        """
        index = self._index(visitor_id)
        pending = [one for one in self._recorder.list_pending(visitor_id) if one.conversation_id == conversation_id]
        if index.is_deleted(conversation_id) or any(isinstance(one, ConversationDeletion) for one in pending):
            raise UserError("no_such_chat")
        turns, shown = self._load_stored(index, visitor_id, conversation_id)
        feedback = {one.turn_id: one.feedback for one in pending if isinstance(one, FeedbackChange)}
        turns |= {one.turn.id: one.turn for one in pending if isinstance(one, TurnRecord)}
        for one in pending:
            if isinstance(one, TagChange) and one.key == SHOWN_BRANCH_TAG:
                shown = one.value
        if not turns:
            if any(map(self._recorder.is_in_progress, index.list_turn_ids(conversation_id))):
                raise UserError("chat_busy")
            raise UserError("chat_unreadable" if index.count_unreadable(conversation_id) else "no_such_chat")
        conversation = build_conversation(turns.values())
        for turn_id, given in feedback.items():
            conversation = conversation.with_feedback(turn_id, given) if turn_id in turns else conversation
        return restore_shown_branch(conversation, shown)

    def list_verdicts(self, visitor_id: str, conversation_id: str) -> dict[str, Verdict]:
        """Return the verdicts of the visitor's votes on the answers of a conversation, by turn id."""
        verdicts = self._index(visitor_id).list_verdicts(conversation_id)
        for one in self._recorder.list_pending(visitor_id):  # the index may lack pending votes
            if isinstance(one, VoteRecord) and one.conversation_id == conversation_id:
                verdicts = {**one.list_verdicts(), **verdicts}
        return verdicts

    def list_votes(self, visitor_id: str) -> list[StoredVote]:
        """Return the visitor's votes, newest first. Damaged ones are omitted and logged."""
        pending = dict[str, Verdict]()  # the index may lack them
        for one in self._recorder.list_pending(visitor_id):
            if isinstance(one, VoteRecord):
                pending = {**one.list_verdicts(), **pending}
        votes = list[StoredVote]()
        for answers in self._index(visitor_id).list_rounds():
            voted = [(turn, verdict or pending.get(turn.metrics.turn_id)) for turn, verdict in answers]
            try:
                if vote := build_vote(visitor_id, voted):
                    votes.append(vote)
            except ValueError as error:
                logger.warning("A vote of visitor %s is damaged: %s", visitor_id, error)
        return sorted(votes, key=lambda vote: vote.voted_at, reverse=True)

    def vote(self, vote: VoteRecord) -> bool:
        """Record a vote, which is final; return False if the round already has one."""
        if not self._index(vote.visitor_id).try_vote(vote):
            return False
        self._recorder.submit(vote)
        return True

    def get_title(self, visitor_id: str, conversation_id: str) -> str:
        """Return the conversation's title; empty if the visitor has no such conversation."""
        return self._index(visitor_id).get_title(conversation_id) or ""

    def apply(self, operation: Operation) -> None:
        """Apply an operation that has just been submitted to the recorder."""
        index = self._index(operation.visitor_id)
        for step in list_steps(operation):
            index.apply(step)

    def rename(self, visitor_id: str, conversation_id: str, title: str) -> None:
        """Set a conversation's title; an empty one restores the first question. Raises UserError("no_such_chat")."""
        self._set_tag(visitor_id, conversation_id, TITLE_TAG, shorten_title(title))

    def set_pinned(self, visitor_id: str, conversation_id: str, is_pinned: bool) -> None:
        """Pin a conversation to the top of the list, or unpin it. Raises UserError("no_such_chat")."""
        self._set_tag(visitor_id, conversation_id, PINNED_TAG, "true" if is_pinned else "")

    def save_shown_branch(self, visitor_id: str, conversation_id: str, conversation: Conversation) -> None:
        """Store which branch is shown, until another turn is added. Raises UserError("no_such_chat")."""
        self._set_tag(visitor_id, conversation_id, SHOWN_BRANCH_TAG, serialize_shown_branch(conversation))

    def delete(self, visitor_id: str, conversation_id: str) -> None:
        """Hide a conversation immediately, and delete it from the store when the time to undo this has passed.

        Raises:
            UserError: no_such_chat.
        """
        self._require_root(visitor_id, conversation_id)
        deletion = ConversationDeletion(visitor_id, conversation_id, time.time() + _UNDO_SECONDS)
        self._recorder.submit(deletion)
        self.apply(deletion)

    def restore(self, visitor_id: str, conversation_id: str) -> bool:
        """Undo a deletion; return False if it is too late."""
        if not self._recorder.cancel_deletion(visitor_id, conversation_id):
            return False
        self._index(visitor_id).restore(conversation_id)
        return True

    def is_deleted(self, visitor_id: str, conversation_id: str) -> bool:
        """Return whether it was deleted on this server. A page that still shows it has to start a new conversation."""
        return self._index(visitor_id).is_deleted(conversation_id)

    def is_restorable(self, visitor_id: str, conversation_id: str) -> bool:
        """Return whether its deletion can still be undone."""
        return any(
            isinstance(one, ConversationDeletion) and one.conversation_id == conversation_id
            for one in self._recorder.list_pending(visitor_id)
        )

    def _set_tag(self, visitor_id: str, conversation_id: str, key: str, value: str) -> None:
        root = self._require_root(visitor_id, conversation_id)
        change = TagChange(visitor_id, conversation_id, root, key, value)
        self._recorder.submit(change)
        self.apply(change)

    def _require_root(self, visitor_id: str, conversation_id: str) -> str:
        root = self._index(visitor_id).get_root_turn_id(conversation_id)
        if root is None:
            raise UserError("no_such_chat")
        return root

    def _load_stored(
        self, index: ConversationIndex, visitor_id: str, conversation_id: str
    ) -> tuple[dict[str, Turn], str]:
        """Return the readable turns of a conversation by id, and its tag for the shown branch."""
        traces, damaged = self._search.list_conversation(visitor_id, conversation_id)
        for trace_id in damaged:
            _count_unreadable(index, trace_id, conversation_id, "its spans cannot be parsed")
        turns, shown = dict[str, Turn](), ""
        for trace in traces:
            try:
                turn = parse_turn(trace)
            except UnreadableTraceError as error:
                _count_unreadable(index, trace.info.trace_id, conversation_id, str(error))
                continue
            if turn:
                index.remove_unreadable(trace.info.trace_id)
                turns[turn.id] = turn
                shown = trace.info.tags.get(SHOWN_BRANCH_TAG, shown)
        return turns, shown

    def _index(self, visitor_id: str) -> ConversationIndex:
        """Return the visitor's index. It is refreshed in the background; if that fails, it stays unchanged."""
        with self._lock:
            index = self._indexes.get(visitor_id)
            if index is None:
                index = self._indexes[visitor_id] = ConversationIndex()
                for operation in self._recorder.list_pending(visitor_id):
                    index.apply(operation)
                while len(self._indexes) > _MAX_VISITORS:
                    self._indexes.popitem(last=False)
            self._indexes.move_to_end(visitor_id)
        if refresh := index.start_refresh(_MAX_AGE):
            read = self._load_index if refresh == "load" else self._update_index
            threading.Thread(target=self._refresh, args=(read, visitor_id, index), name="history", daemon=True).start()
            if refresh == "load":
                index.first_page_loaded.wait(_FIRST_PAGE_TIMEOUT)
        return index

    def _refresh(
        self, read: Callable[[str, ConversationIndex], None], visitor_id: str, index: ConversationIndex
    ) -> None:
        """Run `read`; after a failure, the next use of the index retries."""
        try:
            read(visitor_id, index)
        except UserError as error:
            logger.warning("The conversations of visitor %s could not be read: %s", visitor_id, error)
        except Exception:
            logger.exception("The conversations of visitor %s could not be read", visitor_id)
        finally:
            index.finish_refresh()

    def _load_index(self, visitor_id: str, index: ConversationIndex) -> None:
        """Read every trace of a visitor, newest first, then the complete texts of those that are longer than their previews."""
        known, local = index.list_ids(), self._recorder.list_busy(visitor_id)
        truncated = list[str]()
        for number, trace in enumerate(self._search.iterate_infos(visitor_id), 1):
            _add_trace(index, trace)
            known.discard((trace.info.trace_metadata or {}).get(SESSION_KEY, ""))
            if number == LARGEST_PAGE:
                index.first_page_loaded.set()
            if has_truncated_preview(trace.info):
                truncated.append(trace.info.trace_id)
        for conversation_id in known - local - self._recorder.list_busy(visitor_id):
            self._reload_conversation(
                visitor_id, index, conversation_id
            )  # pages may skip traces while others are deleted
        self._reapply(visitor_id, index)
        index.set_loaded()
        for trace_id in truncated:
            self._load_text(index, trace_id)

    def _load_text(self, index: ConversationIndex, trace_id: str) -> None:
        try:
            trace = self._search.get(trace_id)
            if turn := parse_turn(trace):
                index.add_trace(trace.info, (turn.question, turn.answer.text if turn.answer else ""))
        except UnreadableTraceError as error:
            logger.warning("Trace %s can only be searched by its preview: %s", trace_id, error)

    def _update_index(self, visitor_id: str, index: ConversationIndex) -> None:
        """Read the changes of other servers from their logs; sometimes also search for new traces, up to a known one."""
        changes = self._recorder.change_log.read_new()
        try:
            self._apply_changes(changes)
        except BaseException:
            self._recorder.change_log.put_back(changes)
            raise
        if not index.claim_search(_SEARCH_AGE):
            return
        for number, trace in enumerate(self._search.iterate_infos(visitor_id, _UPDATE_PAGE), 1):
            if not _add_trace(index, trace) and number >= _UPDATE_PAGE:
                break
        self._reapply(visitor_id, index)

    def _apply_changes(self, changes: Changes) -> None:
        """Reload the conversations that other servers have changed, for all visitors with an index in memory."""
        with self._lock:
            indexes = list(self._indexes.items())
        for visitor_id, index in indexes:
            if not changes.is_complete:
                self._load_index(visitor_id, index)
                continue
            for key, conversation_id in changes.conversations:
                if key == visitor_key(visitor_id):
                    self._reload_conversation(visitor_id, index, conversation_id)

    def _reload_conversation(self, visitor_id: str, index: ConversationIndex, conversation_id: str) -> None:
        """Reload a conversation that another server has changed or deleted."""
        found = self._search.list_infos(visitor_id, conversation_id)
        for trace in found:
            _add_trace(index, trace)
        if not found:
            index.apply(ConversationDeletion(visitor_id, conversation_id, 0.0))
        self._reapply(visitor_id, index)

    def _reapply(self, visitor_id: str, index: ConversationIndex) -> None:
        """Reapply the operations that are not in the store yet on top of its older state."""
        for operation in self._recorder.list_pending(visitor_id):
            index.apply(operation)


def shorten_title(title: str) -> str:
    """Return a title as it is stored: on one line, shortened."""
    return " ".join(title.split())[:_MAX_TITLE]


def _add_trace(index: ConversationIndex, trace: Trace) -> bool:
    """Add a trace to the index, or count it if it is damaged. Return whether it is new."""
    try:
        return index.add_trace(trace.info)
    except UnreadableTraceError as error:
        conversation_id = trace.info.trace_metadata.get(SESSION_KEY, "")
        return _count_unreadable(index, trace.info.trace_id, conversation_id, str(error))


def _count_unreadable(index: ConversationIndex, trace_id: str, conversation_id: str, reason: str) -> bool:
    is_new = index.add_unreadable(trace_id, conversation_id)
    if is_new:
        logger.warning("Skipped trace %s of conversation %s: %s", trace_id, conversation_id or "unknown", reason)
    return is_new
