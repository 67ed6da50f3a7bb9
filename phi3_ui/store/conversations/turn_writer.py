"""Records conversations: one turn while it is being answered, or a whole imported conversation."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from phi3_ui.chat.conversation import Answer, Conversation, Turn, TurnRequest, new_id
from phi3_ui.chat.types import Message
from phi3_ui.store.conversations.branches import serialize_shown_branch
from phi3_ui.store.conversations.history import History, shorten_title
from phi3_ui.store.conversations.import_ticket import ImportTicket
from phi3_ui.store.conversations.operations import ConversationDeletion, ConversationImport, TurnRecord
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.conversations.traces import SHOWN_BRANCH_TAG, TITLE_TAG

_TICK = 0.001  # seconds; the resolution of a trace's time


class ConversationStore:
    """Records turns through `recorder` and keeps `history` up to date."""

    def __init__(self, recorder: Recorder, history: History, app_version: str) -> None:
        self.recorder = recorder
        self.history = history
        self._app_version = app_version

    def start_turn(
        self,
        visitor_id: str,
        conversation_id: str,
        conversation: Conversation,
        model_name: str,
        messages: tuple[Message, ...] | None = None,
    ) -> "TurnWriter":
        """Record the question of the last shown turn. A full disk does not raise; it becomes the recorder's warning.

        Args:
            visitor_id: The owner of the conversation.
            conversation_id: A `new_id()`.
            conversation: The conversation, whose shown branch ends with the turn.
            model_name: The answering model's name as shown on the page.
            messages: The messages sent to the model, if they are not those of the shown branch.
        """
        turn = conversation.turns[-1]
        messages = messages or conversation.build_messages(turn.request.system if turn.request else "")
        record = TurnRecord(visitor_id, conversation_id, turn, model_name, time.time(), self._app_version, messages)
        return TurnWriter(self, record)

    def import_conversation(
        self,
        visitor_id: str,
        conversation: Conversation,
        title: str = "",
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> "ImportedConversation | None":
        """Import a conversation under a new id, atomically.

        Turns without an answer get an empty one; turns without a time get the current one. Times are made strictly increasing
        along the tree, since the order of the turns is derived from them. Rounds of comparisons are not imported. An empty
        title stands for the first question.

        Returns:
            The conversation, which is written in the background; None if `is_cancelled` became true while the journal was full.

        Raises:
            UserError: See `Recorder.submit_import`.
        """
        tree = list[Turn]()
        for turn in conversation.tree:
            request = replace(turn.request or TurnRequest(time.time(), ""), round=None)
            if tree and (previous := tree[-1].request) and request.asked_at < previous.asked_at + _TICK:
                request = replace(request, asked_at=previous.asked_at + _TICK)
            tree.append(replace(turn, request=request, answer=turn.answer or Answer("", "", finish_reason="stop")))
        recorded = replace(conversation, tree=tuple(tree))
        tags = {SHOWN_BRANCH_TAG: serialize_shown_branch(recorded)}
        if title and title != conversation.title:
            tags[TITLE_TAG] = shorten_title(title)
        operation = ConversationImport(visitor_id, new_id(), recorded.tree, tags, self._app_version)
        ticket = self.recorder.submit_import(operation, is_cancelled)
        if ticket is None:
            return None
        self.history.apply(operation)
        return ImportedConversation(operation.conversation_id, recorded, ticket)

    def delete_import(self, visitor_id: str, conversation_id: str) -> None:
        """Delete a conversation that is still being imported, or whose import failed, without delay."""
        deletion = ConversationDeletion(visitor_id, conversation_id, time.time())
        self.recorder.submit(deletion)
        self.history.apply(deletion)


@dataclass(frozen=True)
class ImportedConversation:
    """A conversation that is being written to the store."""

    id: str
    conversation: Conversation
    """The conversation as it is recorded."""
    ticket: ImportTicket


class TurnWriter:
    """Records one turn: call `append_text` with the answer's text as it is generated, then `finish` with the complete answer."""

    def __init__(self, store: ConversationStore, record: TurnRecord) -> None:
        self._store = store
        self._record = record
        self._draft = store.recorder.start_turn(record)
        store.history.apply(record)

    def append_text(self, text: str) -> None:
        """Add generated text to the journal, which survives a crash."""
        self._draft.append_text(text)

    def finish(self, answer: Answer) -> None:
        """Record the answer, which is on disk when this returns. Record nothing if the conversation no longer exists."""
        recorder, history = self._store.recorder, self._store.history
        visitor_id, conversation_id = self._record.visitor_id, self._record.conversation_id
        if history.is_deleted(visitor_id, conversation_id) and not history.is_restorable(visitor_id, conversation_id):
            recorder.discard_turn(self._draft, self._record)
            return
        record = replace(self._record, turn=replace(self._record.turn, answer=answer), ended_at=time.time())
        recorder.finish_turn(self._draft, record)
        history.apply(record)
