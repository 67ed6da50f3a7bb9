"""Restores the messages of recovered turns, since the journal stores each turn without its predecessors."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from phi3_ui.chat.conversation import Conversation, Turn
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.operations import TurnRecord
from phi3_ui.store.conversations.trace_reader import UnreadableTraceError, parse_turn
from phi3_ui.store.conversations.trace_search import TraceSearch

_MAX_CONVERSATIONS = 4  # cached: turns are recovered in order, almost chat by chat

logger = logging.getLogger(__name__)


class PromptRestorer:
    """Builds the messages of a turn from the preceding turns in the store. Not thread-safe."""

    def __init__(self, locate: Callable[[], ChatLocation]) -> None:
        self._search = TraceSearch(locate)
        self._turns: OrderedDict[tuple[str, str], dict[str, Turn]] = OrderedDict()

    def restore(self, record: TurnRecord) -> TurnRecord:
        """Return the record with its messages, starting at the first turn that the store still has.

        Raises:
            UserError: store_unreachable.
        """
        known = self._find_turns(record.visitor_id, record.conversation_id)
        known[record.turn.id] = record.turn
        branch = [replace(record.turn, answer=None)]
        while (parent := branch[-1].parent) is not None:
            if parent not in known or len(branch) > len(known):
                logger.warning("Trace of turn %s: its predecessor %s is not in the store", record.turn.id, parent)
                break
            branch.append(known[parent])
        branch[-1] = replace(branch[-1], parent=None)
        conversation = Conversation(tuple(reversed(branch)), record.turn.id)
        request = record.turn.request
        return replace(record, messages=conversation.build_messages(request.system if request else ""))

    def _find_turns(self, visitor_id: str, conversation_id: str) -> dict[str, Turn]:
        key = visitor_id, conversation_id
        if key not in self._turns:
            self._turns[key] = self._load(*key)
            while len(self._turns) > _MAX_CONVERSATIONS:
                self._turns.popitem(last=False)
        self._turns.move_to_end(key)
        return self._turns[key]

    def _load(self, visitor_id: str, conversation_id: str) -> dict[str, Turn]:
        turns = dict[str, Turn]()
        for trace in self._search.list_conversation(visitor_id, conversation_id)[0]:
            try:
                turn = parse_turn(trace)
            except UnreadableTraceError as error:
                logger.warning("Skipped trace %s: %s", trace.info.trace_id, error)
                continue
            if turn:
                turns[turn.id] = turn
        return turns
