"""Login sessions, which the server can end."""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

MAX_AGE = 30 * 24 * 3600
"""Seconds after which a session ends, even if it is in use."""

_MAX_SESSIONS = 10_000


@dataclass(frozen=True)
class _LoginSession:
    name: str
    started: float
    used: float


class LoginSessions:
    """Sessions by the hash of their token, so that a memory dump does not reveal tokens. Thread-safe."""

    def __init__(self, idle_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """A session ends after `idle_seconds` without a request."""
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, _LoginSession] = {}

    def start(self, name: str) -> str:
        """Start a session and return its token."""
        token = secrets.token_urlsafe(32)
        now = self._clock()
        with self._lock:
            self._remove_ended(now)
            self._sessions[_hash(token)] = _LoginSession(name, now, now)
        return token

    def find(self, token: str | None) -> str | None:
        """Return the user of the session with this token and mark it as used; None if there is none, or it has ended."""
        if not token:
            return None
        key, now = _hash(token), self._clock()
        with self._lock:
            session = self._sessions.get(key)
            if session is None or self._has_ended(session, now):
                self._sessions.pop(key, None)
                return None
            self._sessions[key] = replace(session, used=now)
            return session.name

    def end(self, token: str | None) -> None:
        """End the session with this token, if there is one."""
        with self._lock:
            self._sessions.pop(_hash(token or ""), None)

    def _has_ended(self, session: _LoginSession, now: float) -> bool:
        return now - session.used > self._idle_seconds or now - session.started > MAX_AGE

    def _remove_ended(self, now: float) -> None:
        """Remove ended sessions and, if there are too many, the least recently used ones."""
        kept = {key: one for key, one in self._sessions.items() if not self._has_ended(one, now)}
        while len(kept) >= _MAX_SESSIONS:
            del kept[min(kept, key=lambda key: kept[key].used)]
        self._sessions = kept


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
