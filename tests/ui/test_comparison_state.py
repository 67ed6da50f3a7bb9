"""A comparison's state: rounds, places, stop and finish from several threads, and what is restored from the store."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from phi3_ui.chat.comparison import RoundPlace
from phi3_ui.chat.conversation import Answer, Conversation, Turn, TurnRequest
from phi3_ui.chat.types import GenerationParams
from phi3_ui.errors import UserError
from phi3_ui.ui.comparison_state import AskedRound, Comparison, Contestant, restore_comparison

TIMEOUT = 30
SIDES = (Contestant("m-1"), Contestant("m-2", "creative"), Contestant("m-3"))


def answer(comparison: Comparison, round_: AskedRound) -> None:
    """Answer a round on every side."""
    for index, position in enumerate(round_.places):
        contestant = comparison.contestants[position]
        request = TurnRequest(
            float(len(comparison.rounds)),
            contestant.model_id,
            contestant.system,
            GenerationParams(temperature=0.9 if contestant.preset else 0.5),
            round=RoundPlace(round_.id, index, len(round_.places), round_.is_blind),
        )
        chat = comparison.chats[position]
        started = chat.try_start(partial(Conversation.with_question, question=round_.question, request=request))
        assert started
        chat.finish(started.turn_id, Answer(contestant.model_id, "Because.", finish_reason="stop"))


def ask(comparison: Comparison, question: str, is_blind: bool = True) -> AskedRound:
    round_ = comparison.try_start(question, is_blind)
    assert round_
    answer(comparison, round_)
    comparison.finish()
    return round_


def test_sides_are_shuffled_in_each_blind_round_only() -> None:
    comparison = Comparison(SIDES)
    blind = {ask(comparison, "Why?").places for _ in range(60)}
    assert len(blind) > 3
    assert ask(comparison, "Why?", is_blind=False).places == (0, 1, 2)


def test_only_one_round_runs_at_a_time() -> None:
    comparison, barrier = Comparison(SIDES), threading.Barrier(2)

    def start(question: str) -> AskedRound | None:
        barrier.wait(TIMEOUT)
        return comparison.try_start(question, True)

    with ThreadPoolExecutor(2) as pool:
        started = list(pool.map(start, ("one", "two")))

    assert sum(result is not None for result in started) == 1
    assert len(comparison.rounds) == 1


def test_concurrent_stop_and_finish_leave_an_ended_round() -> None:
    for _ in range(50):
        comparison, barrier = Comparison(SIDES), threading.Barrier(2)
        round_ = comparison.try_start("Why?", True)
        assert round_
        answer(comparison, round_)

        def stop(comparison: Comparison = comparison, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(TIMEOUT)
            comparison.stop()

        thread = threading.Thread(target=stop)
        thread.start()
        barrier.wait(TIMEOUT)
        comparison.finish()
        thread.join(TIMEOUT)
        assert not comparison.is_running
        assert comparison.rounds == (round_,)
        assert ask(comparison, "And then?")
        assert not comparison.is_stopped()


def test_one_answer_or_all_can_be_stopped() -> None:
    comparison = Comparison(SIDES)
    round_ = comparison.try_start("Why?", True)
    assert round_
    comparison.stop(9)
    assert not any(comparison.is_stopped(position) for position in range(3))
    comparison.stop(1)
    assert [comparison.is_stopped(position) for position in range(3)].count(True) == 1
    assert comparison.is_stopped(round_.places[1])
    assert not comparison.is_stopped()
    comparison.stop()
    assert comparison.is_stopped()


def test_a_round_in_which_no_side_was_asked_is_dropped() -> None:
    comparison, error = Comparison(SIDES), UserError("no_model")
    assert comparison.try_start("Why?", True)
    comparison.finish(error)
    assert comparison.rounds == ()
    assert comparison.error is error


def test_a_comparison_is_restored_with_its_rounds_and_each_sides_history() -> None:
    comparison = Comparison(SIDES)
    first, second = ask(comparison, "Why?"), ask(comparison, "And then?", is_blind=False)
    tree = list[Turn]()
    for index in range(2):  # in chronological order
        tree += [chat.conversation.tree[index] for chat in comparison.chats]
    stored = Conversation(tuple(tree), tree[-1].id)

    restored = restore_comparison(comparison.id, stored)

    assert restored.contestants == SIDES
    assert [(round_.id, round_.question, round_.is_blind) for round_ in restored.rounds] == [
        (first.id, "Why?", True),
        (second.id, "And then?", False),
    ]
    for original_round, restored_round in zip(comparison.rounds, restored.rounds, strict=True):
        assert restored.find_turns(restored_round) == comparison.find_turns(original_round)
    assert [chat.conversation.turns for chat in restored.chats] == [
        chat.conversation.turns for chat in comparison.chats
    ]
    assert not restored.is_running
    voted = {turn.id for turn in restored.find_turns(restored.rounds[0]) if turn}
    assert restored.has_hidden_round(())
    assert not restored.has_hidden_round(voted)


def test_a_chat_without_rounds_is_not_a_comparison() -> None:
    with pytest.raises(UserError, match="no longer exists"):
        restore_comparison("c", Conversation().with_question("Why?"))
