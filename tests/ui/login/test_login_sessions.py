"""Login sessions and their lifetime."""

from dataclasses import dataclass

import pytest

from phi3_ui.ui.login import login_sessions
from phi3_ui.ui.login.login_sessions import MAX_AGE, LoginSessions


@dataclass
class Clock:
    """Seconds."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_session_ends_when_it_is_idle_too_old_or_logged_out() -> None:
    clock = Clock()
    sessions = LoginSessions(100, clock)
    first, second = sessions.start("anna"), sessions.start("anna")
    clock.now = 90
    assert sessions.find(first) == "anna"
    clock.now = 150
    assert (sessions.find(first), sessions.find(second)) == ("anna", None)
    sessions.end(first)
    assert sessions.find(first) is None

    old = sessions.start("bob")
    for _ in range(MAX_AGE // 99 + 2):
        clock.now += 99
        sessions.find(old)
    assert sessions.find(old) is None


@pytest.mark.parametrize("token", [None, "", "x", "é" * 100])
def test_an_invalid_token_finds_no_session(token: str | None) -> None:
    sessions = LoginSessions(100)
    sessions.start("anna")
    assert sessions.find(token) is None
    sessions.end(token)


def test_the_number_of_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_sessions, "_MAX_SESSIONS", 3)
    clock = Clock()
    sessions = LoginSessions(100, clock)
    tokens: list[str] = []
    for second in range(4):
        clock.now = second
        tokens.append(sessions.start(str(second)))
    assert [sessions.find(token) for token in tokens] == [None, "1", "2", "3"]
