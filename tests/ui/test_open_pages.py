"""Pages that open, lose their connection, reload and close."""

import threading

import pytest

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.ui.comparison_state import Comparison, Contestant
from phi3_ui.ui.open_pages import OpenPages
from phi3_ui.ui.sessions import Session
from tests.support.cards import ENTRY
from tests.support.turns import TIMEOUT, WaitingModel, run_together, start

LONG = 3600
TAB, CLIENT = "a" * 32, "127.0.0.1 Browser"


@pytest.fixture
def grace_timers(monkeypatch: pytest.MonkeyPatch) -> list[threading.Timer]:
    """Return all timers that are created."""
    created: list[threading.Timer] = []

    class Timer(threading.Timer):
        def start(self) -> None:
            created.append(self)
            super().start()

    monkeypatch.setattr(threading, "Timer", Timer)
    return created


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_page_not_seen_before_gets_one_empty_chat() -> None:
    session = OpenPages(LONG).get("a", "ro")

    assert session.language == "ro"
    assert session.model.id is None
    assert [chat.conversation for chat in session.chats] == [Conversation()]
    assert session.current is session.chats[0]


def test_a_page_keeps_its_session_and_shares_it_with_none() -> None:
    pages = OpenPages(LONG)
    session = pages.get("a", "en")

    assert pages.get("a", "ro") is session
    assert session.language == "en"
    assert pages.get("b", "en") is not session
    assert pages.get("b", "en").current is not session.current


def test_pages_that_open_concurrently_get_one_session_each() -> None:
    pages, opened = OpenPages(LONG), list[tuple[str, Session]]()

    run_together(*[lambda key=key: opened.append((key, pages.get(key, "en"))) for key in "abababab"])

    assert {(key, id(session)) for key, session in opened} == {(key, id(pages.get(key, "en"))) for key in "ab"}


def test_a_login_identifies_the_user_regardless_of_the_browsers_secret() -> None:
    pages = OpenPages(LONG)
    anna, bob, visitor = (pages.get("page", "en", login) for login in ("anna", "bob", None))
    anna.identify("a" * 48)

    assert (anna.user_id, bob.user_id) == ("anna", "bob")
    assert len({id(anna), id(bob), id(visitor)}) == 3
    assert pages.get("page", "en", "anna") is anna


# Shutdown


def test_all_answers_are_stopped_and_stored_when_the_app_ends() -> None:
    pages, stored = OpenPages(LONG), list[Answer]()
    for key in "ab":
        start(pages.get(key, "en").current, WaitingModel(), stored)

    pages.stop_all(TIMEOUT)

    assert [answer.finish_reason for answer in stored] == ["cancelled", "cancelled"]
    assert pages.get("late", "en").is_closed(), "no more answers are started"


# A lost connection


def open_answering_page(pages: OpenPages, key: str) -> tuple[Session, RunningTurn]:
    """Return a page with an answer in progress."""
    session = pages.get(key, "en")
    return session, start(session.current, WaitingModel())


def lose_connection(pages: OpenPages, key: str) -> None:
    pages.open_stream(key)
    pages.close_stream(key, is_lost=True)


def test_an_answer_is_stopped_at_the_end_of_the_grace_period_and_the_page_is_kept() -> None:
    pages = OpenPages(grace_seconds=0)
    session, turn = open_answering_page(pages, "a")
    other = open_answering_page(pages, "b")[1]

    lose_connection(pages, "a")

    assert turn.wait(TIMEOUT)
    assert pages.get("a", "en") is session
    assert not session.is_closed()
    assert pages.get("b", "en").current.running is other
    pages.stop_all(TIMEOUT)


def test_an_answer_continues_during_the_grace_period() -> None:
    pages = OpenPages(LONG)
    session, turn = open_answering_page(pages, "a")

    lose_connection(pages, "a")

    assert session.connection.lost.is_set()
    reading = turn.snapshots(0, session.connection.lost.is_set)
    next(reading)
    reading.close()
    assert session.current.is_busy
    pages.stop_all(TIMEOUT)


def test_a_page_is_streamed_while_one_of_its_streams_is_open() -> None:
    pages = OpenPages(1.0)
    assert not pages.is_streamed("a")
    for _ in range(2):
        pages.open_stream("a")
    pages.close_stream("a", is_lost=True)
    assert pages.is_streamed("a")
    pages.close_stream("a", is_lost=True)
    assert not pages.is_streamed("a")


def test_a_page_that_reconnects_has_lost_nothing(grace_timers: list[threading.Timer]) -> None:
    pages = OpenPages(LONG)
    session, turn = open_answering_page(pages, "a")
    lose_connection(pages, "a")
    lost = session.connection.lost

    pages.open_stream("a")

    assert lost.is_set(), "an event that wrote to the lost connection still sees it"
    assert not session.connection.lost.is_set()
    assert [timer.finished.is_set() for timer in grace_timers] == [True]
    turn.stop()


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_stream_that_ended_or_has_a_successor_is_not_a_lost_connection(is_lost: bool) -> None:
    pages = OpenPages(grace_seconds=0)
    session = pages.get("a", "en")
    pages.open_stream("a")
    if is_lost:
        pages.open_stream("a")

    pages.close_stream("a", is_lost)

    assert not session.connection.lost.is_set()


# Tabs


def test_the_next_page_of_a_tab_takes_over_its_chats(grace_timers: list[threading.Timer]) -> None:
    pages = OpenPages(LONG)
    old, turn = open_answering_page(pages, "old")
    pages.claim_tab("old", None, TAB, CLIENT)
    lose_connection(pages, "old")
    new = pages.get("new", "en")

    pages.claim_tab("new", None, TAB, CLIENT)

    assert new.current.running is turn
    assert pages.get("old", "en") is not old
    assert [timer.finished.is_set() for timer in grace_timers] == [True, False], "the new page is not connected yet"
    pages.open_stream("new")
    assert all(timer.finished.is_set() for timer in grace_timers)
    pages.close_tab(TAB, CLIENT)
    assert turn.wait(TIMEOUT)


def test_an_already_connected_page_gets_no_grace_period(grace_timers: list[threading.Timer]) -> None:
    pages = OpenPages(LONG)
    turn = open_answering_page(pages, "old")[1]
    pages.claim_tab("old", None, TAB, CLIENT)
    pages.get("new", "en")
    pages.open_stream("new")

    pages.claim_tab("new", None, TAB, CLIENT)

    assert grace_timers == []
    pages.close_tab(TAB, CLIENT)
    assert turn.wait(TIMEOUT)


def test_a_closed_page_cannot_claim_a_tab() -> None:
    pages = OpenPages(LONG)
    session, turn = open_answering_page(pages, "old")
    pages.claim_tab("old", None, TAB, CLIENT)

    pages.claim_tab("closed", None, TAB, CLIENT)

    assert session.current.running is turn
    pages.stop_all(TIMEOUT)


def test_a_tab_may_be_claimed_repeatedly() -> None:
    pages = OpenPages(LONG)
    session, turn = open_answering_page(pages, "a")

    for _ in range(3):
        pages.claim_tab("a", None, TAB, CLIENT)

    assert session.current.running is turn
    pages.stop_all(TIMEOUT)


def test_another_user_in_the_same_tab_takes_over_nothing() -> None:
    pages = OpenPages(LONG)
    anna = pages.get("old", "en", "anna")
    turn = start(anna.current, WaitingModel())
    pages.claim_tab("old", "anna", TAB, CLIENT)
    bob = pages.get("new", "en", "bob")

    pages.claim_tab("new", "bob", TAB, CLIENT)

    assert bob.current.running is None
    assert anna.current.running is turn
    pages.stop_all(TIMEOUT)


def test_a_tab_that_closes_stops_its_answers_at_once_and_is_forgotten() -> None:
    pages = OpenPages(LONG)
    session = pages.get("a", "en")
    first = session.current
    turns = [start(first, WaitingModel())]
    session.show_new()
    turns.append(start(session.current, WaitingModel()))
    pages.claim_tab("a", None, TAB, CLIENT)
    other = open_answering_page(pages, "b")[1]
    pages.claim_tab("b", None, "b" * 32, CLIENT)

    pages.close_tab(TAB, CLIENT)

    for turn in turns:
        *_, last = turn.snapshots(0)
        assert last.answer is not None
        assert last.answer.finish_reason == "cancelled"
    assert first.conversation.last_answer is not None, "the chat still gets the answer"
    assert pages.get("a", "en") is not session
    assert pages.get("b", "en").current.running is other
    pages.close_tab(TAB, CLIENT)
    pages.stop_all(TIMEOUT)


@pytest.mark.parametrize("secret", ["", "unknown", "a" * 31])
def test_a_beacon_without_the_secret_of_a_tab_stops_nothing(secret: str) -> None:
    pages = OpenPages(LONG)
    pages.get("unclaimed", "en")
    session, turn = open_answering_page(pages, "a")
    pages.claim_tab("a", None, TAB, CLIENT)

    pages.close_tab(secret, CLIENT)

    assert session.current.running is turn
    pages.stop_all(TIMEOUT)


def test_a_tab_that_reloads_its_page_has_not_closed() -> None:
    clock = Clock()
    pages = OpenPages(LONG, clock)
    pages.start_loading(CLIENT)
    session, turn = open_answering_page(pages, "a")
    pages.claim_tab("a", None, TAB, CLIENT)
    pages.start_loading(CLIENT)

    pages.close_tab(TAB, CLIENT)

    assert session.current.running is turn
    clock.now += 60
    pages.close_tab(TAB, CLIENT)
    assert turn.wait(TIMEOUT), "the page was loaded too long ago to explain the beacon"


def test_a_page_loaded_by_another_browser_or_loaded_completely_is_not_a_reload() -> None:
    pages = OpenPages(LONG)
    turn = open_answering_page(pages, "a")[1]
    pages.start_loading(CLIENT)
    pages.claim_tab("a", None, TAB, CLIENT)
    pages.start_loading("127.0.0.2 Browser")

    pages.close_tab(TAB, CLIENT)

    assert turn.wait(TIMEOUT)


def test_a_model_is_shared_while_another_users_page_has_selected_it() -> None:
    clock = Clock()
    pages = OpenPages(LONG, clock)
    ana = pages.get("a", "en", "ana")
    for key, login in (("b", "ana"), ("c", "bob"), ("d", "eve")):
        pages.get(key, "en", login)
    for session in (ana, pages.get("b", "en", "ana")):
        session.model.select("m-1")
        session.model.set_entry("m-1", ENTRY)
    assert not pages.is_model_shared("m-1", "ana"), "two pages of one user"
    assert pages.is_model_shared("m-1", "bob")

    pages.get("d", "en", "eve").set_comparison(Comparison([Contestant("m-1"), Contestant("m-2")]))
    assert pages.is_model_shared("m-1", "ana")
    assert pages.is_model_shared("m-2", "bob")

    clock.now += 400
    assert not pages.is_model_shared("m-2", "bob"), "its page has been idle for a while"
    pages.get("d", "en", "eve")
    assert pages.is_model_shared("m-2", "bob")


def test_a_page_without_an_event_for_a_day_is_forgotten() -> None:
    clock = Clock()
    pages = OpenPages(LONG, clock)
    idle, turn = open_answering_page(pages, "idle")
    active = pages.get("used", "en")
    clock.now += 20 * 3600
    assert pages.get("used", "en") is active
    clock.now += 20 * 3600

    pages.get("new", "en")

    assert turn.wait(TIMEOUT)
    assert idle.is_closed()
    assert pages.get("used", "en") is active


def test_forgotten_pages_are_reported_once_no_login_has_the_page() -> None:
    clock, dropped = Clock(), list[str]()
    pages = OpenPages(0, clock)
    pages.on_forgotten(dropped.append)
    for login in ("anna", "bob"):
        pages.get("a", "en", login)
        pages.claim_tab("a", login, f"tab of {login}", "browser")
    pages.close_tab("tab of anna", "browser")
    assert dropped == []
    pages.close_tab("tab of bob", "browser")
    assert dropped == ["a"]

    pages.get("b", "en")
    clock.now += 25 * 3600
    pages.get("c", "en")
    assert dropped == ["a", "b"]


def test_an_address_cannot_open_unlimited_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phi3_ui.ui.open_pages._MAX_PAGES", 3)
    clock = Clock()
    pages = OpenPages(LONG, clock)
    other = pages.get("other", "en", address="2001:db8::/64")
    first, second, third = (pages.get(key, "en", address="192.0.2.1") for key in ("a", "b", "c"))
    clock.now += 1
    assert pages.get("a", "en", address="192.0.2.1") is first
    clock.now += 1
    pages.get("d", "en", address="192.0.2.1")

    assert second.is_closed()
    assert not any(session.is_closed() for session in (other, first, third))
    assert pages.get("other", "en", address="2001:db8::/64") is other


def test_a_login_loses_only_its_own_pages_and_one_with_a_stream_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phi3_ui.ui.open_pages._MAX_PAGES", 2)
    clock = Clock()
    pages = OpenPages(LONG, clock)
    anna = pages.get("annas", "en", "anna", "192.0.2.1")
    pages.get("streamed", "en", "bob", "192.0.2.1")
    pages.open_stream("streamed")
    for key in "abcd":
        clock.now += 1
        pages.get(key, "en", "bob", f"192.0.2.{ord(key)}")

    assert pages.list_keys("bob", "") == ["streamed", "d"]
    assert pages.get("annas", "en", "anna") is anna
    pages.open_stream("d")
    pages.get("e", "en", "bob")
    assert pages.list_keys("bob", "") == ["d", "e"], "if all have a stream, the oldest is dropped"


def test_a_page_belongs_to_its_login_until_its_last_stream_ends() -> None:
    pages, dropped = OpenPages(0), list[str]()
    pages.on_forgotten(dropped.append)
    pages.get("a", "en", "anna")
    pages.claim_tab("a", "anna", TAB, CLIENT)
    assert pages.is_taken("a", "bob")
    assert not pages.is_taken("a", "anna")
    pages.open_stream("a")
    pages.close_tab(TAB, CLIENT)

    assert not pages.is_open("a", "anna")
    assert pages.is_taken("a", "bob")
    assert not pages.is_taken("a", "anna")
    assert dropped == []
    pages.close_stream("a", is_lost=True)
    assert not pages.is_taken("a", "bob")
    assert dropped == ["a"]
