"""The open pages: their sessions, and which of them have lost their connection or closed.

A page is identified by Gradio's session hash, which it creates when it loads, and by the login. A lost connection is not
a closed tab: its answers continue for a grace period. Gradio's page reloads once the server is reachable again; the new
page belongs to the same tab, whose secret both know, and takes over the chats of the old one. A closing tab sends a
beacon. A reloading tab sends the same beacon, but has already requested the new page.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from phi3_ui.ui.sessions import Session

_LOAD_SECONDS = (
    15.0  # from the request for a page until it reports its tab, or the page that it replaces sends its beacon
)
_ACTIVE_SECONDS = 300.0  # a visible page polls the state of its model every few seconds
_IDLE_SECONDS = 24 * 3600.0  # a page without any event for this long is forgotten; a laptop may sleep overnight
_MAX_PAGES = 500  # per login, or per address; anyone can make up any number of keys


@dataclass(eq=False)
class _OpenPage:
    session: Session
    used_at: float
    address: str
    """The address that the page was first used from."""
    tab: str | None = None
    """The secret of the browser tab that shows the page, once the page has reported it."""
    grace: threading.Timer | None = None
    """Stops the page's answers when it elapses, unless the page has reconnected by then."""

    def start_grace(self, seconds: float, end: Callable[["_OpenPage"], None]) -> None:
        if self.grace is None:
            self.grace = threading.Timer(seconds, end, [self])
            self.grace.daemon = True
            self.grace.start()

    def cancel_grace(self) -> None:
        if self.grace:
            self.grace.cancel()
            self.grace = None


class OpenPages:
    """The sessions of all open pages. Thread-safe."""

    def __init__(
        self, grace_seconds: float, clock: Callable[[], float] = time.monotonic, hides_paths: bool = True
    ) -> None:
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._hides_paths = hides_paths
        self._lock = threading.Lock()
        self._pages: dict[tuple[str, str | None], _OpenPage] = {}
        self._streams: Counter[str] = Counter()
        self._left: dict[str, str | None] = {}
        """The logins of forgotten pages that still have an event stream, by key."""
        self._loading: dict[str, list[float]] = {}
        self._is_closing = False
        self._drop_state: Callable[[str], None] = lambda _: None

    def on_forgotten(self, drop_state: Callable[[str], None]) -> None:
        """Call `drop_state` with the key of each page that is forgotten from now on. It must not block."""
        self._drop_state = drop_state

    def get(self, key: str, language: str, login: str | None = None, address: str = "") -> Session:
        """Return the session of a page; a new one for a page not seen before, or for another login.

        If a login, or an address without one, has too many pages, the least recently used one is forgotten: one with an
        event stream only if all have one.
        """
        idle: list[_OpenPage] = []
        with self._lock:
            now = self._clock()
            page = self._pages.get((key, login))
            if page is None:
                idle = [page for page in self._pages.values() if page.used_at < now - _IDLE_SECONDS]
                own = [name for name in self._list_names(login, address) if self._pages[name] not in idle]
                if len(own) >= _MAX_PAGES:
                    oldest = min(own, key=lambda name: (self._streams[name[0]] > 0, self._pages[name].used_at))
                    idle.append(self._pages[oldest])
                self._forget(idle)
                page = self._pages[key, login] = _OpenPage(Session(language, login, self._hides_paths), now, address)
                if self._is_closing:
                    page.session.close()
            page.used_at = now
        for other in idle:
            other.session.close()
        return page.session

    def is_open(self, key: str, login: str | None) -> bool:
        """Whether a login has a page with this key."""
        with self._lock:
            return (key, login) in self._pages

    def is_taken(self, key: str, login: str | None) -> bool:
        """Whether another login has a page with this key, or had one and still receives its events."""
        with self._lock:
            return self._left.get(key, login) != login or any(
                name == key and owner != login for name, owner in self._pages
            )

    def list_keys(self, login: str | None, address: str) -> list[str]:
        """Return the keys of the pages of a login, or of an address without one."""
        with self._lock:
            return [key for key, _ in self._list_names(login, address)]

    def _list_names(self, login: str | None, address: str) -> list[tuple[str, str | None]]:
        pages = self._pages.items()
        return [name for name, page in pages if name[1] == login and (login is not None or page.address == address)]

    def is_model_shared(self, model_id: str, user_id: str) -> bool:
        """Whether a recently used page of another user would ask this model next."""
        with self._lock:
            since = self._clock() - _ACTIVE_SECONDS
            others = [
                page.session
                for page in self._pages.values()
                if page.used_at > since and page.session.user_id != user_id
            ]
        return any(session.uses(model_id) for session in others)

    def _forget(self, pages: list[_OpenPage]) -> None:
        before = self._pages
        self._pages = {key: page for key, page in before.items() if page not in pages}
        for page in pages:
            page.cancel_grace()
        left = {key: login for (key, login), page in before.items() if page in pages}
        self._left |= {key: login for key, login in left.items() if self._streams[key]}
        for key in left:
            self._drop_unless_used(key)

    def _drop_unless_used(self, key: str) -> None:
        if not self._find_pages(key) and not self._streams[key]:
            self._drop_state(key)

    # The connection of a page

    def open_stream(self, key: str) -> None:
        """Record that an event stream to the page has opened: the page is connected."""
        with self._lock:
            self._streams[key] += 1
            for page in self._find_pages(key):
                page.cancel_grace()
                page.session.connection.renew()

    def is_streamed(self, key: str) -> bool:
        """Whether an event stream to the page is open."""
        with self._lock:
            return self._streams[key] > 0

    def close_stream(self, key: str, is_lost: bool) -> None:
        """Record that an event stream to the page has ended; `is_lost`: before the events that it carries.

        Without another stream, the page's answers are stopped after the grace period, unless it has reconnected by then.
        """
        with self._lock:
            self._streams[key] -= 1
            if self._streams[key] > 0:
                return
            del self._streams[key]
            self._left.pop(key, None)
            self._drop_unless_used(key)
            for page in self._find_pages(key) if is_lost else []:
                page.session.connection.lost.set()
                page.start_grace(self._grace_seconds, self._end_grace)

    def _find_pages(self, key: str) -> list[_OpenPage]:
        return [page for (page_key, _), page in self._pages.items() if page_key == key]

    def _end_grace(self, page: _OpenPage) -> None:
        with self._lock:
            if page.grace is not threading.current_thread():
                return
            page.grace = None
        page.session.stop_answers()

    # Tabs

    def start_loading(self, client: str) -> None:
        """Record that a browser has requested the page. `client` tells browsers apart as well as possible."""
        with self._lock:
            self._list_loads(client).append(self._clock())

    def claim_tab(self, key: str, login: str | None, tab: str, client: str) -> None:
        """Record that the tab with this secret shows this page, which takes over the chats of the tab's previous page."""
        with self._lock:
            page = self._pages.get((key, login))
            if page is None or page.tab == tab:  # closed meanwhile, or claimed before
                return
            previous = [other for (_, owner), other in self._pages.items() if other.tab == tab and owner == login]
            page.tab = tab
            del self._list_loads(client)[:1]
            for other in previous:
                other.session.hand_over(page.session)
            self._forget(previous)
            if previous and not self._streams[key]:
                page.start_grace(self._grace_seconds, self._end_grace)  # until its first event stream

    def find_session(self, tab: str, login: str | None) -> Session | None:
        """Return the session of the page that the tab with this secret shows."""
        with self._lock:
            pages = self._pages.items()
            return next(
                (page.session for (_, owner), page in pages if tab and page.tab == tab and owner == login), None
            )

    def close_tab(self, tab: str, client: str) -> None:
        """Record that the tab leaves its page, and stop its answers: after the grace period if the page is reloading."""
        with self._lock:
            pages = [page for page in self._pages.values() if page.tab == tab]
            if self._list_loads(client):
                for page in pages:
                    page.start_grace(self._grace_seconds, self._end_grace)
                return
            self._forget(pages)
        for page in pages:
            page.session.close()

    def _list_loads(self, client: str) -> list[float]:
        """Return the times at which the pages that `client` is loading were requested, oldest first."""
        since = self._clock() - _LOAD_SECONDS
        recent = {name: [at for at in times if at > since] for name, times in self._loading.items()}
        self._loading = {name: times for name, times in recent.items() if times}
        return self._loading.setdefault(client, [])

    # Shutdown

    def stop_all(self, seconds: float) -> None:
        """Stop every answer at shutdown, and wait up to `seconds` for each to be stored."""
        with self._lock:
            self._is_closing = True
            sessions = [page.session for page in self._pages.values()]
        running = [turn for session in sessions for turn in session.close()]
        for turn in running:
            turn.wait(seconds)
