"""One turn of a person's conversation, kept from its question to its end."""

import time
from dataclasses import replace

from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.operations import TurnRecord
from phi3_ui.store.conversations.recorder import Recorder


class ConversationStore:
    """Where a person's turns go: to the journal and the store through `recorder`, and into the list of `history`.

    `version` is the app's.
    """

    def __init__(self, recorder: Recorder, history: History, version: str) -> None:
        self.recorder = recorder
        self.history = history
        self._version = version

    def start_turn(self, person: str, conversation_id: str, conversation: Conversation, model: str) -> "TurnWriter":
        """The last turn shown was asked, of `model` (as it is called). OSErrors become the recorder's warning."""
        turn = conversation.turns[-1]
        messages = conversation.build_messages(turn.request.system if turn.request else "")
        record = TurnRecord(person, conversation_id, turn, model, messages, time.time(), self._version)
        return TurnWriter(self, record)

    def import_conversation(self, person: str, conversation_id: str, conversation: Conversation) -> Conversation:
        """Keep a conversation that was had elsewhere, every turn of it; as it is kept.

        Turns of which it is not known when they were asked are taken for asked now, one after the other.
        """
        now = time.time()
        tree = [
            replace(
                turn,
                request=turn.request or TurnRequest(now + at / 1000, ""),
                answer=turn.answer or Answer("", "", finish_reason="stop"),
            )
            for at, turn in enumerate(conversation.tree)
        ]
        kept = replace(conversation, tree=tuple(tree))
        for turn in tree:
            asked, answer = turn.request, turn.answer
            assert asked
            assert answer
            ended = asked.asked_at + (answer.timings.seconds if answer.timings else 0.0)
            messages = kept.truncated_at(turn.id).build_messages(asked.system)
            self._keep(TurnRecord(person, conversation_id, turn, answer.model, messages, ended, self._version))
            if turn.feedback:
                self.recorder.set_feedback(person, conversation_id, turn.id, turn.feedback)
        return kept

    def _keep(self, record: TurnRecord) -> None:
        self.recorder.submit(record)
        self.history.apply(record)


class TurnWriter:
    """`text` takes the answer's words as they come, then `end` its whole."""

    def __init__(self, keeper: ConversationStore, record: TurnRecord) -> None:
        self._keeper = keeper
        self._record = record
        self._part = keeper.recorder.start_turn(record)
        keeper.history.apply(record)
        self.append_text = self._part.text

    def finish(self, answer: Answer) -> None:
        """When this returns, the turn is safe on disk; unless its conversation was deleted for good meanwhile."""
        person, conversation = self._record.person, self._record.conversation
        history = self._keeper.history
        if history.is_deleted(person, conversation) and not history.is_restorable(person, conversation):
            self._keeper.recorder.discard_turn(self._part, self._record)
            return
        record = replace(self._record, turn=replace(self._record.turn, answer=answer), ended=time.time())
        self._keeper.recorder.finish_turn(self._part, record)
        self._keeper.history.apply(record)
