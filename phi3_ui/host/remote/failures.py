"""What can go wrong with a server: each failure as one sentence with its cure. No sentence holds the server's key."""

import json
import os
import re
import socket
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from phi3_ui.chat.json_values import has_more_values
from phi3_ui.chat.one_line import write_on_one_line
from phi3_ui.errors import UserError
from phi3_ui.remote_servers import RemoteServer

_CONTEXT = re.compile(
    r"context_length_exceeded|context (length|size|window)|maximum context|too many tokens|exceed\w{0,9} .{0,40}context|n_ctx",
    re.IGNORECASE,
)
_RETRIED = (429, 502, 503, 504)
_MAX_WAIT = 10.0  # seconds that a server may ask to wait for before its refusal is shown
_MAX_DETAIL = 300
_MAX_VALUES = 10_000  # of the JSON of an error
_MAX_SEARCHED = 100_000  # bytes


@dataclass(eq=False)
class RequestError(Exception):
    """A request that has failed."""

    error: UserError
    """What the person reads."""
    retry_after: float | None = None
    """Seconds after which the same request may succeed; None: it would fail again, or it is not known that it did nothing."""


@dataclass(frozen=True)
class Asked:
    """Which model of which server was asked."""

    server: RemoteServer
    model: str

    def fail(self, code: str, **values: str | int) -> UserError:
        """A UserError with the names that all sentences of remote servers use."""
        return UserError(code, model=self.model, host=self.server.host, name=self.server.name, **values)

    def malformed(self, detail: str) -> UserError:
        """The server is not what it should be."""
        return self.fail("remote_malformed", detail=self.redact(detail))

    def redact(self, text: str) -> str:
        """A text of the server on one line, shortened, without its key."""
        try:
            key = self.server.read_key()
        except UserError:
            key = ""
        text = text.replace(key, "…") if key else text
        return write_on_one_line(text[: 10 * _MAX_DETAIL])[:_MAX_DETAIL].rstrip(". ")


def failure_of_network(asked: Asked, error: Exception, *, has_response: bool) -> RequestError:
    """The failure of a request whose connection could not be made, or broke."""
    if has_response:
        return RequestError(asked.fail("remote_cut"))
    if isinstance(error, httpx.RemoteProtocolError) and "location header" in str(error):
        return RequestError(asked.fail("remote_redirects", target="…"))  # to what is no address
    if isinstance(error, httpx.ReadError | httpx.WriteError) or str(error).startswith("Server disconnected"):
        return RequestError(asked.fail("remote_cut"), 0.0)
    if isinstance(error, httpx.RemoteProtocolError):
        return RequestError(asked.malformed(str(error)))
    if found := next(filter(None, (_failure_of_cause(asked, cause) for cause in _list_causes(error))), None):
        return found
    retry_after = None if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL) else 0.0
    return RequestError(asked.fail("remote_unreachable", detail=asked.redact(_describe(error))), retry_after)


def _failure_of_cause(asked: Asked, cause: BaseException) -> RequestError | None:
    """The failure whose cause is one of the common ones."""
    match cause:
        case httpx.TimeoutException() | TimeoutError():
            return RequestError(asked.fail("remote_timeout"))
        case ssl.SSLCertVerificationError():
            return RequestError(asked.fail("remote_certificate", detail=asked.redact(cause.verify_message)))
        case ssl.SSLError():
            return RequestError(asked.fail("remote_not_tls"))
        case ConnectionRefusedError():
            return RequestError(asked.fail("remote_not_running"), 0.0)
        case socket.gaierror():
            return RequestError(asked.fail("remote_unknown_host"), 0.0)
    return None


def failure_of_status(asked: Asked, status: int, headers: httpx.Headers, body: bytes) -> RequestError:
    """The failure that a server reports with a status."""
    detail = asked.redact(find_message(body) or f"status {status}")
    if status in _RETRIED:
        seconds = _parse_seconds(headers.get("retry-after"))
        wait = None if seconds is not None and seconds > _MAX_WAIT else seconds or 0.0
        if status in (429, 503) and seconds:
            return RequestError(asked.fail("remote_rate_limited_for", seconds=max(round(seconds), 1)), wait)
        code = "remote_rate_limited" if status == 429 else "remote_failed"
        return RequestError(asked.fail(code, **({} if status == 429 else {"detail": detail})), wait)
    if status in (401, 403):
        return RequestError(asked.fail("remote_key_refused", detail=detail))
    if status == 404:
        return RequestError(asked.fail("remote_no_model", detail=detail))
    if status < 400:
        if target := headers.get("location", ""):
            return RequestError(asked.fail("remote_redirects", target=asked.redact(target)))
        return RequestError(asked.malformed(f"status {status}"))
    if status >= 500:
        return RequestError(asked.fail("remote_failed", detail=detail))
    if _CONTEXT.search(body[:_MAX_SEARCHED].decode("utf-8", "replace")):
        return RequestError(asked.fail("remote_context", detail=detail))
    return RequestError(asked.fail("remote_refused", detail=detail))


def failure_of_event(asked: Asked, error: Any) -> UserError:
    """The failure that a server reports within its stream."""
    message = find_message(json.dumps({"error": error}).encode()) or "it says no reason"
    code = "remote_context" if _CONTEXT.search(json.dumps(error)[:_MAX_SEARCHED]) else "remote_failed"
    return asked.fail(code, detail=asked.redact(message))


def find_message(body: bytes) -> str:
    """The sentence in the body of an error: OpenAI's, FastAPI's, Databricks' or Ollama's; empty if it is none of them."""
    if has_more_values(body, _MAX_VALUES):
        return ""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(content, dict):
        return ""
    error = content.get("error", content)
    found = error.get("message", error.get("detail", "")) if isinstance(error, dict) else error
    return found if isinstance(found, str) else ""


def _list_causes(error: BaseException) -> list[BaseException]:
    """An error and what has caused it, the first of each group."""
    cause: BaseException | None = error
    causes = list[BaseException]()
    while cause and cause not in causes:
        causes.append(cause)
        group = cause.exceptions if isinstance(cause, BaseExceptionGroup) else ()
        cause = group[0] if group else cause.__cause__ or cause.__context__
    return causes


def _describe(error: BaseException) -> str:
    """What has happened, in words of the system."""
    for cause in _list_causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror
    return str(error) or type(error).__name__


def _parse_seconds(value: str | None) -> float | None:
    """The seconds of a Retry-After header, which may also be a date."""
    try:
        seconds = float(value or "")
    except ValueError:
        try:
            seconds = max(parsedate_to_datetime(value or "").timestamp() - time.time(), 0.0)
        except (ValueError, OverflowError):
            return None
    return seconds if 0 <= seconds < 86_400 * 30 else None
