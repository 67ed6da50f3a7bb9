"""Imported conversations: the title is the first question's, whatever the times of the turns."""

import time
from itertools import permutations
from pathlib import Path

from phi3_ui.chat.conversation import Conversation, TurnRequest, new_id
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.index import ConversationIndex
from phi3_ui.store.conversations.traces import build_trace_info
from phi3_ui.store.conversations.turn_writer import ConversationStore
from tests.store.conversations.chats import ME, answer, ask, record
from tests.store.conversations.test_recorder import experiment, new_recorder
from tests.support.build_cache import create_store


def _asked_at(moment: float, *questions: str) -> Conversation:
    """A conversation whose questions were all asked at the same time."""
    talk = Conversation()
    for question in questions:
        talk = talk.with_question(question, TurnRequest(moment, "", "Be brief.")).with_answer(answer("Yes."))
    return talk


def test_the_title_does_not_depend_on_the_order_of_traces_with_equal_times() -> None:
    talk = _asked_at(1000.0, "first", "second", "third")
    infos = [build_trace_info(record("c", Conversation(talk.tree, turn.id)), "1") for turn in talk.tree]

    for order in permutations(infos):
        index = ConversationIndex()
        for info in order:
            index.add_trace(info)
        assert index.get_title("c") == "first"
        assert index.get_root_turn_id("c") == talk.tree[0].id


def test_an_imported_conversation_keeps_its_title_and_order_after_another_turn_and_a_restart(tmp_path: Path) -> None:
    uri = create_store(tmp_path)
    recorder = new_recorder(uri, tmp_path)
    store = ConversationStore(recorder, History(uri, lambda: experiment(uri), recorder), "0")
    imported = {}
    for _ in range(7):
        conversation_id = new_id()
        talk = store.import_conversation(ME, conversation_id, _asked_at(time.time(), "first", "second"))
        first, second = (turn.request.asked_at for turn in talk.tree if turn.request)
        assert first < second
        talk = ask(talk, "third").with_answer(answer("Yes."))
        recorder.submit(record(conversation_id, talk))
        imported[conversation_id] = talk
    assert recorder.flush(30)

    restarted = History(uri, lambda: experiment(uri), recorder)

    assert restarted.wait_until_loaded(ME, 30)
    assert {one.title for one in restarted.list_conversations(ME)} == {"first"}
    for conversation_id in imported:
        assert [turn.question for turn in restarted.load(ME, conversation_id).turns] == ["first", "second", "third"]
    recorder.close()
