"""Access control for calls of the page's API: whose page a user may call, and how many concurrent calls a user may make."""

import asyncio
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from fastapi import HTTPException, Request
from gradio.queueing import Queue
from gradio.utils import LRUCache

from phi3_ui.accounts.address import normalize_address
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import detect_language, tr_error
from phi3_ui.ui.open_pages import OpenPages

_KEY = re.compile(r"[\w-]{1,64}", re.ASCII)  # Gradio's pages generate 10 or 11 letters and digits
_MAX_CALLS = 40  # per user, of the 100 threads that all share

FindLogin = Callable[[Request], str | None]
_Person = tuple[str | None, str]
"""A login, or None and an address."""


class PageCalls:
    """Refuses calls with another user's page, and too many calls of one user. Gradio itself checks neither.

    A user is a login, or an address without one. Used only in the app's event loop, except for `forget`.
    """

    def __init__(self, queue: Queue, pages: OpenPages, find_login: FindLogin | None) -> None:
        """`find_login` returns the logged-in user; None: no login is required."""
        self._queue, self._pages = queue, pages
        self._find_login = find_login or (lambda _: None)
        unread = queue.pending_event_ids_session = _UnreadEvents()
        self._messages = queue.pending_messages_per_session = _Messages(pages.is_streamed, unread)
        self._answered = Counter[_Person]()

    async def check(self, request: Request) -> AsyncIterator[None]:
        """FastAPI dependency of each of Gradio's routes; it lasts until the call is answered.

        Raises:
            HTTPException: 400 for an invalid page key, 404 for another user's page or event, 429 for too many calls.
        """
        if request.method != "POST":
            yield
            return
        body = await _read_body(request)
        key = body.get("session_hash")
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise HTTPException(400, "Session hash not found.")
        route, language = request.url.path.rstrip("/"), detect_language(request.headers.get("accept-language"))
        person = _identify(request, login := self._find_login(request))
        if route.endswith("/cancel"):
            self._require_event(key, login, body.get("event_id"))
        elif self._pages.is_taken(key, login):
            raise HTTPException(404, "Not Found")
        queued = self._count_events(person) if route.endswith("/join") else 0  # Stop always works
        if self._answered[person] + queued >= _MAX_CALLS:
            raise HTTPException(429, tr_error(language, UserError("too_many_calls")))
        if not self._pages.is_open(key, login):
            self._pages.get(key, language, *person)
        self._answered[person] += 1
        try:
            yield
        finally:
            self._answered -= Counter([person])  # which drops zero counts

    def may_stream(self, key: str, request: Request) -> bool:
        """Whether there are messages for a page that this request may read."""
        return key in self._messages and self._pages.is_open(key, self._find_login(request))

    def forget(self, key: str) -> None:
        """Drop the messages of a page. Thread-safe."""
        self._messages.drop(key)

    def _require_event(self, key: str, login: str | None, event_id: object) -> None:
        event = self._queue.event_ids_to_events.get(event_id) if isinstance(event_id, str) else None
        if not self._pages.is_open(key, login) or (event and event.session_hash != key):
            raise HTTPException(404, "Not Found")

    def _count_events(self, person: _Person) -> int:
        """Return how many events of a user wait, run, or have ended unread."""
        queue = self._queue
        events = [event for one in queue.event_queue_per_concurrency_id.values() for event in one.queue]
        events += [event for job in queue.active_jobs if job for event in job]
        found = {event._id for event in events if _identify(event.request, event.username) == person}
        for key in self._pages.list_keys(*person):
            if key in self._messages:
                found |= queue.pending_event_ids_session.get(key, set())
        return len(found)


class _UnreadEvents(dict[str, set[str]]):
    """The ids of each page's events whose end has not been read. A forgotten page has none: its stream may still look them up."""

    def __missing__(self, key: str) -> set[str]:
        return set()


class _Messages(LRUCache[str, Any]):
    """The messages of each page. Gradio 6.31 deletes them when one of the page's streams breaks, even if another one needs them.

    A stream without them ends with a server error. A page whose connection breaks may briefly have two streams. `OpenPages` limits
    the number of pages per user: Gradio would evict the oldest page of all users.
    """

    def __init__(self, is_streamed: Callable[[str], bool], unread: _UnreadEvents) -> None:
        super().__init__(sys.maxsize)
        self._is_streamed, self._unread = is_streamed, unread

    def __missing__(self, key: str) -> Any:
        return asyncio.Queue()  # events of a forgotten page continue without a reader

    def __delitem__(self, key: str) -> None:
        if not self._is_streamed(key):
            self.drop(key)

    def drop(self, key: str) -> None:
        """Delete the messages of a page unconditionally."""
        self._unread.pop(key, None)
        with suppress(KeyError):
            super().__delitem__(key)


def _identify(request: Request, login: str | None) -> _Person:
    host = request.client.host if request.client else ""
    return login, normalize_address(host) if login is None else ""


async def _read_body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request, which FastAPI has already parsed; invalid JSON is rejected later."""
    with suppress(ValueError, RecursionError):
        body = await request.json()
        if isinstance(body, dict):
            return body
    return {}
