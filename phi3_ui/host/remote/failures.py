"""Maps each failure of a server to a user-facing error with a remedy. No error contains the server's key."""

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
_MAX_VALUES = 10_000  # JSON values of an error
_MAX_SEARCHED = 100_000  # bytes


@dataclass(eq=False)
class RequestError(Exception):
    """A request has failed."""

    error: UserError
    """The error to show to the user."""
    retry_after: float | None = None
    """Seconds after which the same request may succeed; None: it would fail again, or may have had an effect."""


@dataclass(frozen=True)
class RemoteTarget:
    """The model and server to which a request was sent."""

    server: RemoteServer
    model: str

    def error(self, code: str, **values: str | int) -> UserError:
        """Return a UserError with the names that all messages about remote servers use."""
        return UserError(code, model=self.model, host=self.server.host, name=self.server.name, **values)

    def malformed_error(self, detail: str) -> UserError:
        """Return the error for a server that does not follow the API."""
        return self.error("remote_malformed", detail=self.redact(detail))

    def redact(self, text: str) -> str:
        """Return a text from the server on one line, shortened, without its key."""
        try:
            key = self.server.read_key()
        except UserError:
            key = ""
        text = text.replace(key, "…") if key else text
        return write_on_one_line(text[: 10 * _MAX_DETAIL])[:_MAX_DETAIL].rstrip(". ")


def failure_from_network(target: RemoteTarget, error: Exception, *, has_response: bool) -> RequestError:
    """Return the failure of a request whose connection could not be opened, or broke."""
    if has_response:
        return RequestError(target.error("remote_cut"))
    if isinstance(error, httpx.RemoteProtocolError) and "location header" in str(error):
        return RequestError(target.error("remote_redirects", target="…"))  # the target is not a URL
    if isinstance(error, httpx.ReadError | httpx.WriteError) or str(error).startswith("Server disconnected"):
        return RequestError(target.error("remote_cut"), 0.0)
    if isinstance(error, httpx.RemoteProtocolError):
        return RequestError(target.malformed_error(str(error)))
    if found := next(filter(None, (_failure_from_cause(target, cause) for cause in _list_causes(error))), None):
        return found
    retry_after = None if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL) else 0.0
    return RequestError(target.error("remote_unreachable", detail=target.redact(_describe(error))), retry_after)


def _failure_from_cause(target: RemoteTarget, cause: BaseException) -> RequestError | None:
    """Return the failure for a common cause; None for any other."""
    match cause:
        case httpx.TimeoutException() | TimeoutError():
            return RequestError(target.error("remote_timeout"))
        case ssl.SSLCertVerificationError():
            return RequestError(target.error("remote_certificate", detail=target.redact(cause.verify_message)))
        case ssl.SSLError():
            return RequestError(target.error("remote_not_tls"))
        case ConnectionRefusedError():
            return RequestError(target.error("remote_not_running"), 0.0)
        case socket.gaierror():
            return RequestError(target.error("remote_unknown_host"), 0.0)
    return None


def failure_from_status(target: RemoteTarget, status: int, headers: httpx.Headers, body: bytes) -> RequestError:
    """Return the failure that a server reports with an HTTP status."""
    detail = target.redact(find_message(body) or f"status {status}")
    if status in _RETRIED:
        seconds = _parse_seconds(headers.get("retry-after"))
        wait = None if seconds is not None and seconds > _MAX_WAIT else seconds or 0.0
        if status in (429, 503) and seconds:
            return RequestError(target.error("remote_rate_limited_for", seconds=max(round(seconds), 1)), wait)
        code = "remote_rate_limited" if status == 429 else "remote_failed"
        return RequestError(target.error(code, **({} if status == 429 else {"detail": detail})), wait)
    if status in (401, 403):
        return RequestError(target.error("remote_key_refused", detail=detail))
    if status == 404:
        return RequestError(target.error("remote_no_model", detail=detail))
    if status < 400:
        if location := headers.get("location", ""):
            return RequestError(target.error("remote_redirects", target=target.redact(location)))
        return RequestError(target.malformed_error(f"status {status}"))
    if status >= 500:
        return RequestError(target.error("remote_failed", detail=detail))
    if _CONTEXT.search(body[:_MAX_SEARCHED].decode("utf-8", "replace")):
        return RequestError(target.error("remote_context", detail=detail))
    return RequestError(target.error("remote_refused", detail=detail))


def failure_from_event(target: RemoteTarget, error: Any) -> UserError:
    """Return the failure that a server reports within its stream."""
    message = find_message(json.dumps({"error": error}).encode()) or "no reason given"
    code = "remote_context" if _CONTEXT.search(json.dumps(error)[:_MAX_SEARCHED]) else "remote_failed"
    return target.error(code, detail=target.redact(message))


def find_message(body: bytes) -> str:
    """Return the message in the body of an error of OpenAI, FastAPI, Databricks or Ollama; empty for any other format."""
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
    """Return an error and its chain of causes; of an exception group, the first member."""
    cause: BaseException | None = error
    causes = list[BaseException]()
    while cause and cause not in causes:
        causes.append(cause)
        group = cause.exceptions if isinstance(cause, BaseExceptionGroup) else ()
        cause = group[0] if group else cause.__cause__ or cause.__context__
    return causes


def _describe(error: BaseException) -> str:
    """Return the operating system's description of the error, if there is one, else its message."""
    for cause in _list_causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror
    return str(error) or type(error).__name__


def _parse_seconds(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which may also be a date; None if invalid."""
    try:
        seconds = float(value or "")
    except ValueError:
        try:
            seconds = max(parsedate_to_datetime(value or "").timestamp() - time.time(), 0.0)
        except (ValueError, OverflowError):
            return None
    return seconds if 0 <= seconds < 86_400 * 30 else None
