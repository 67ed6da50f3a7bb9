"""Recording conversations: one turn while it is being answered, or a whole imported conversation."""

import time
from dataclasses import replace

from phi3_ui.chat.conversation import Answer, Conversation, Turn, TurnRequest
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.operations import TurnRecord
from phi3_ui.store.conversations.recorder import Recorder

_TICK = 0.001  # seconds; the resolution of a trace's time


class ConversationStore:
    """Records turns through `recorder` and keeps `history` up to date with them."""

    def __init__(self, recorder: Recorder, history: History, app_version: str) -> None:
        self.recorder = recorder
        self.history = history
        self._app_version = app_version

    def start_turn(
        self, visitor_id: str, conversation_id: str, conversation: Conversation, model_name: str
    ) -> "TurnWriter":
        """Record that the last shown turn was asked. A full disk does not raise; it becomes the recorder's warning.

        Args:
            visitor_id: Whose conversation it is.
            conversation_id: A `new_id()`.
            conversation: With the turn as the end of the shown branch.
            model_name: The model that answers, as the page calls it.
        """
        turn = conversation.turns[-1]
        messages = conversation.build_messages(turn.request.system if turn.request else "")
        record = TurnRecord(visitor_id, conversation_id, turn, model_name, messages, time.time(), self._app_version)
        return TurnWriter(self, record)

    def import_conversation(self, visitor_id: str, conversation_id: str, conversation: Conversation) -> Conversation:
        """Record every turn of a conversation from elsewhere, and return it as it was recorded.

        Turns without an answer get an empty one. Turns without a time are dated now. Times increase strictly along the
        tree, as the order of the turns is read back from them. Each record holds its own question only, since what else was
        sent to the model is unknown, and whole conversations would soon fill the journal.
        """
        tree = list[Turn]()
        for turn in conversation.tree:
            request = turn.request or TurnRequest(time.time(), "")
            if tree and (previous := tree[-1].request) and request.asked_at < previous.asked_at + _TICK:
                request = replace(request, asked_at=previous.asked_at + _TICK)
            tree.append(replace(turn, request=request, answer=turn.answer or Answer("", "", finish_reason="stop")))
        for turn in tree:
            self._import_turn(visitor_id, conversation_id, turn)
        return replace(conversation, tree=tuple(tree))

    def _import_turn(self, visitor_id: str, conversation_id: str, turn: Turn) -> None:
        if turn.request is None or turn.answer is None:
            raise ValueError(f"turn {turn.id} of conversation {conversation_id} is not answered")
        ended_at = turn.request.asked_at + (turn.answer.timings.seconds if turn.answer.timings else 0.0)
        messages = Conversation((replace(turn, answer=None, parent=None),), turn.id).build_messages(turn.request.system)
        record = TurnRecord(visitor_id, conversation_id, turn, turn.answer.model, messages, ended_at, self._app_version)
        self.recorder.submit(record)
        self.history.apply(record)
        if turn.feedback:
            self.recorder.set_feedback(visitor_id, conversation_id, turn.id, turn.feedback)


class TurnWriter:
    """Records one turn: `append_text` takes the answer's text as it is generated, then `finish` the complete answer."""

    def __init__(self, store: ConversationStore, record: TurnRecord) -> None:
        self._store = store
        self._record = record
        self._draft = store.recorder.start_turn(record)
        store.history.apply(record)

    def append_text(self, text: str) -> None:
        """Add generated text to the journal, which outlives a crash."""
        self._draft.append_text(text)

    def finish(self, answer: Answer) -> None:
        """Record the answer; on disk when this returns. Nothing is recorded if the conversation no longer exists."""
        recorder, history = self._store.recorder, self._store.history
        visitor_id, conversation_id = self._record.visitor_id, self._record.conversation_id
        if history.is_deleted(visitor_id, conversation_id) and not history.is_restorable(visitor_id, conversation_id):
            recorder.discard_turn(self._draft, self._record)
            return
        record = replace(self._record, turn=replace(self._record.turn, answer=answer), ended_at=time.time())
        recorder.finish_turn(self._draft, record)
        history.apply(record)
