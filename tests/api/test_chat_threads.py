"""Chats of the API are recognised, and their memory is bounded."""

from collections.abc import Callable

import pytest

from phi3_ui.accounts.quotas import Person
from phi3_ui.api.history import ChatThreads, Thread
from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.types import Message
from tests.support.turns import run_together

ANNA, BOB = Person("anna"), Person("bob")


def create(name: str, text: str = "Hi", system: str = "") -> Thread:
    request = TurnRequest(0.0, "m-1", system)
    conversation = Conversation().with_question(text, request).with_answer(Answer("m", "Hello"))
    return Thread(name, conversation, (Message("user", text), Message("assistant", "Hello")))


def test_a_chat_is_found_by_its_messages_and_its_response() -> None:
    threads, thread = ChatThreads(), create("one")
    threads.add(ANNA, thread, "r1")
    assert threads.find(ANNA, thread.messages) is thread
    assert threads.find_response(ANNA, "r1") is thread
    assert threads.find(BOB, thread.messages).messages == ()
    assert threads.find_response(BOB, "r1") is None
    assert threads.find_response(ANNA, "r2") is None


def test_the_last_of_equal_chats_is_found_even_after_the_first_is_dropped() -> None:
    threads, last = ChatThreads(limit=2), create("two")
    threads.add(ANNA, create("one"), "r1")
    threads.add(ANNA, last, "r2")
    threads.add(ANNA, create("three", "Other"), "r3")
    assert threads.find_response(ANNA, "r1") is None
    assert threads.find(ANNA, last.messages) is last


@pytest.mark.parametrize(
    "make",
    [
        lambda name: create(name, "\U00010348" * 1000),
        lambda name: create(name, system="\U00010348" * 1000),
        lambda name: Thread(name, Conversation(), (Message("user", name), *[Message("user", "x")] * 8)),
    ],
    ids=["characters of four bytes", "system prompts", "many messages"],
)
def test_large_chats_are_kept_up_to_a_total_size(make: Callable[[str], Thread]) -> None:
    threads = ChatThreads(max_bytes=100_000)
    for number in range(100):
        threads.add(ANNA, make(f"t{number}"), f"r{number}")
    kept = [number for number in range(100) if threads.find_response(ANNA, f"r{number}")]
    assert 10 <= len(kept) <= 25
    assert kept == list(range(100))[-len(kept) :]


def test_only_the_user_with_the_most_chats_loses_some() -> None:
    threads = ChatThreads(limit=50, max_bytes=1_000_000)
    threads.add(BOB, create("bob"), "r")
    for number in range(100):
        threads.add(ANNA, create(f"t{number}", f"{number}" * 10_000), f"r{number}")
    assert threads.find_response(BOB, "r")
    assert threads.find_response(ANNA, "r99")
    threads.add(ANNA, create("huge", "x" * 2_000_000), "huge")
    assert threads.find_response(ANNA, "huge") is None
    assert threads.find_response(ANNA, "r99")
    assert threads.find_response(BOB, "r")


def test_two_threads_add_and_find_without_losing_count() -> None:
    threads = ChatThreads(limit=20)

    def work(person: Person) -> None:
        for number in range(500):
            threads.add(person, create("t", f"{number}"), f"r{number}")
            threads.find_response(person, f"r{number - 1}")

    run_together(lambda: work(ANNA), lambda: work(BOB))
    kept = [owner for owner in (ANNA, BOB) for number in range(500) if threads.find_response(owner, f"r{number}")]
    assert len(kept) == threads._count == 20
    assert threads._size == sum(user.size for user in threads._users.values())
