"""Imported conversations are titled by their first question, even if all turns have the same time."""

import time
from itertools import permutations

from phi3_ui.chat.conversation import Conversation, TurnRequest
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.index import ConversationIndex
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.conversations.traces import build_trace_info
from phi3_ui.store.conversations.turn_writer import ConversationStore
from tests.store.conversations.chats import ME, ask, make_answer, make_record
from tests.store.conversations.recording import TIMEOUT, locate_in


def _simultaneous_questions(asked_at: float, *questions: str) -> Conversation:
    """Return a conversation whose questions were all asked at the same time."""
    conversation = Conversation()
    for question in questions:
        conversation = conversation.with_question(question, TurnRequest(asked_at, "", "Be brief.")).with_answer(
            make_answer("Yes.")
        )
    return conversation


def test_the_title_does_not_depend_on_the_order_of_traces_with_equal_times() -> None:
    conversation = _simultaneous_questions(1000.0, "first", "second", "third")
    infos = [
        build_trace_info(make_record("c", Conversation(conversation.tree, turn.id)), "1") for turn in conversation.tree
    ]

    for order in permutations(infos):
        index = ConversationIndex()
        for info in order:
            index.add_trace(info)
        assert index.get_title("c") == "first"
        assert index.get_root_turn_id("c") == conversation.tree[0].id


def test_an_imported_conversation_keeps_its_title_and_order_after_another_turn_and_a_restart(
    uri: str, recorder: Recorder
) -> None:
    store = ConversationStore(recorder, History(locate_in(uri), recorder), "0")
    imported = {}
    for _ in range(7):
        stored = store.import_conversation(ME, _simultaneous_questions(time.time(), "first", "second"))
        assert stored
        conversation_id, conversation = stored.id, stored.conversation
        first, second = (turn.request.asked_at for turn in conversation.tree if turn.request)
        assert first < second
        conversation = ask(conversation, "third").with_answer(make_answer("Yes."))
        recorder.submit(make_record(conversation_id, conversation))
        imported[conversation_id] = conversation
    assert recorder.flush(TIMEOUT)

    restarted = History(locate_in(uri), recorder)

    assert restarted.wait_until_loaded(ME, TIMEOUT)
    assert {summary.title for summary in restarted.list_conversations(ME)} == {"first"}
    for conversation_id in imported:
        assert [turn.question for turn in restarted.load(ME, conversation_id).turns] == ["first", "second", "third"]
