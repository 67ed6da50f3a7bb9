"""Limits on the bodies of requests, enforced before they are read, and on the number of requests per address."""

import asyncio
import math
import re
import threading
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phi3_ui.accounts.address import normalize_address
from phi3_ui.api.errors import from_user_error, is_api_path
from phi3_ui.chat.json_values import ValueCounter
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr_error
from phi3_ui.settings import Settings
from phi3_ui.ui.front_page import find_language

IMPORT_PATH = "/import"
"""The route that receives files of chats, which may be larger than other requests."""

_MEGABYTE = 1_000_000
_MAX_VALUES = (
    100_000  # in a JSON body: parsing and checking that many takes 50 ms, during which no other request is served
)
_GRACE_SECONDS, _SLOWEST = 90.0, 10_000
"""Time that a body may take, plus a second for each _SLOWEST bytes: slower than any connection in practical use."""

# Event streams stay open, and these files are cached; all other requests cost the app something.
_UNCOUNTED = re.compile(r"/gradio_api/(queue/data|heartbeat/.*)|/(assets|static|svelte|phi3)/.+|/health")


class RequestRate:
    """Counts the requests of each address in the current minute; a limit of 0 means none. Thread-safe."""

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._lock = threading.Lock()

    def claim(self, address: str) -> int:
        """Count a request. Return 0, or the seconds to wait if it is one too many."""
        with self._lock:
            if self._limit is None or self._limiter.hit(self._limit, address):
                return 0
            return max(1, math.ceil(self._limiter.get_window_stats(self._limit, address).reset_time - time.time()))


class RequestLimits:
    """ASGI middleware: 413 for a body that is too large or has too many values, 408 for one too slow, 429 for too many requests.

    The response has a sentence as `detail`, or the API's error format. A body is refused by its declared length; one without a declared
    length, or longer than declared, is counted as it arrives.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._max_request, self._max_import = settings.max_request_mb, settings.max_import_mb
        self._rate = RequestRate(settings.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        path = str(scope["path"]).removeprefix(scope.get("root_path", "")) or "/"
        address = normalize_address(request.client.host if request.client else "")
        if not _UNCOUNTED.fullmatch(path) and (seconds := self._rate.claim(address)):
            error = UserError("too_many_requests", seconds=seconds)
            await _refuse(request, path, 429, error, {"Retry-After": str(seconds)})(scope, receive, send)
            return
        is_import = path == IMPORT_PATH
        limit = self._max_import if is_import else self._max_request
        too_large = _refuse(request, path, 413, UserError("request_too_large", size=limit), {"Connection": "close"})
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limit * _MEGABYTE:
            await too_large(scope, receive, send)
            return
        body = _CountedBody(receive, send, limit * _MEGABYTE, None if is_import else ValueCounter())
        try:
            await self._app(scope, body.receive, body.send)
        except ClientDisconnect:
            if not body.is_refused:
                raise
        if body.is_refused and not body.has_started:
            refusal = too_large
            if body.is_late:
                refusal = _refuse(request, path, 408, UserError("request_too_slow"), {"Connection": "close"})
            elif body.has_too_many_values:
                error = UserError("request_too_complex", count=_MAX_VALUES)
                refusal = _refuse(request, path, 413, error, {"Connection": "close"})
            await refusal(scope, receive, send)


class _CountedBody:
    """A request's body up to its limits. To the app, a longer or slower one is a lost connection, and its response is dropped."""

    def __init__(self, receive: Receive, send: Send, limit: int, values: ValueCounter | None) -> None:
        self._receive, self._send = receive, send
        self._left = limit
        self._values = values
        self._deadline = asyncio.get_running_loop().time() + _GRACE_SECONDS
        self._is_complete = False
        self.is_late = False
        """Whether it did not arrive in time."""
        self.has_started = False
        """Whether the app has begun to answer before the limit was reached."""

    @property
    def is_refused(self) -> bool:
        """Whether a limit was reached."""
        return self._left < 0 or self.is_late or self.has_too_many_values

    @property
    def has_too_many_values(self) -> bool:
        """Whether parsing it would hold up all other requests."""
        return self._values is not None and self._values.count > _MAX_VALUES

    async def receive(self) -> Message:
        if not self.is_refused:
            deadline = asyncio.timeout_at(None if self._is_complete else self._deadline)
            try:
                async with deadline:
                    message = await self._receive()
            except TimeoutError:
                if not deadline.expired():
                    raise
                self.is_late = True
                return {"type": "http.disconnect"}
            piece = message.get("body", b"")
            if self._values:
                self._values.add(piece)
            size = len(piece)
            self._left -= size
            self._deadline += size / _SLOWEST
            self._is_complete = not message.get("more_body")
            if not self.is_refused:
                return message
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if not self.is_refused or self.has_started:
            self.has_started = True
            await self._send(message)


def _refuse(request: Request, path: str, status: int, error: UserError, headers: dict[str, str]) -> Response:
    if is_api_path(path):
        response = from_user_error(error).respond()
        response.headers.update(headers)
        return response
    sentence = tr_error(find_language(request), error)
    return JSONResponse({"detail": sentence}, status, {"Cache-Control": "no-store", **headers})
