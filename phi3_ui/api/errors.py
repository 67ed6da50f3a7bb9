"""Errors in OpenAI's format: `{"error": {"message", "type", "param", "code"}}`."""

from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from phi3_ui.errors import UserError
from phi3_ui.i18n.hide_paths import hide_paths

_STATUS = {
    **dict.fromkeys(
        ("invalid_param", "bad_seed", "message_too_long", "refused", "bad_template", "system_prompt_rejected"), 400
    ),
    **dict.fromkeys(("no_template", "empty_question", "unsupported_option", "no_model"), 400),
    **dict.fromkeys(("model_not_trusted", "gpu_visitor_unknown"), 403),
    **dict.fromkeys(("remote_context", "remote_refused", "remote_filtered"), 400),
    "context_exceeded": 400,
    "model_gone": 404,
    "remote_gone": 404,
    **dict.fromkeys(("request_too_large", "request_too_complex"), 413),
    **dict.fromkeys(
        ("too_many_questions", "too_many_answers", "tokens_used_up", "queue_full", "too_many_requests"), 429
    ),
    **dict.fromkeys(("remote_rate_limited", "remote_rate_limited_for", "gpu_quota"), 429),
    # Failures of the upstream server: the caller can only wait, or contact its administrator.
    **dict.fromkeys(("remote_unreachable", "remote_failed", "remote_cut", "remote_malformed", "remote_no_model"), 502),
    **dict.fromkeys(("remote_key_refused", "remote_key_missing", "remote_no_text", "remote_tool_call"), 502),
    **dict.fromkeys(("too_many_models", "store_unreachable", "load_failed", "interrupted", "model_unreadable"), 503),
    **dict.fromkeys(("openai_not_configured", "shutting_down", "gpu_busy", "gpu_lost"), 503),
    **dict.fromkeys(("remote_not_running", "remote_unknown_host", "remote_certificate", "remote_not_tls"), 502),
    **dict.fromkeys(("remote_redirects", "remote_web_page"), 502),
    **dict.fromkeys(("remote_timeout", "remote_silent"), 504),
}
"""HTTP statuses by code of the UserError; 500 for all others."""

_INVALID_JSON = "The body is not valid JSON in UTF-8, is nested too deeply, or contains a number that is too long."
_RETRY_SECONDS = {"queue_full": 5, "shutting_down": 5}
"""Seconds after which to retry, by code of the UserError, for errors that do not specify it themselves."""

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """The error response to a request."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        """`param` is the invalid field, `code` a machine-readable name of the problem."""
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.retry_after: int | None = None
        """Seconds after which the same request may succeed."""

    @property
    def body(self) -> dict[str, Any]:
        """The body of the response, or of the event that ends a stream."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def respond(self) -> JSONResponse:
        """Return the response."""
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after else {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


def is_api_path(path: str) -> bool:
    """Return whether a path, relative to the app's root, belongs to the API, whose errors have OpenAI's format."""
    return path == "/v1" or path.startswith("/v1/")


def from_user_error(error: UserError, status: int | None = None, field: str | None = None) -> ApiError:
    """Convert an error of the app, hiding the server's folders. `status` defaults to that of its code.

    `field` is the field of the request with the question.
    """
    param, code = None, error.code
    if error.code in ("context_exceeded", "remote_context"):
        param, code = field, "context_length_exceeded"
    elif error.code == "bad_seed":
        param = "seed"
    elif error.code == "invalid_param":
        param = str(error.values["name"])
    elif error.code in ("model_gone", "no_model", "model_not_trusted", "model_unreadable"):
        param = "model"
    api_error = ApiError(status or _STATUS.get(error.code, 500), hide_paths(str(error)), param, code)
    seconds = error.values.get("seconds")
    api_error.retry_after = seconds if isinstance(seconds, int) else _RETRY_SECONDS.get(error.code)
    return api_error


async def answer_invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Return 400 for a body that is not JSON, is not declared as JSON, or does not match the schema, with the first invalid field."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  # the one kind that this handler is registered for
    problem = error.errors()[0]
    place = [part for part in problem["loc"] if part != "body"]
    if problem["type"] == "json_invalid":
        return ApiError(400, _INVALID_JSON, code="invalid_json").respond()
    if isinstance(problem["input"], bytes):  # FastAPI does not parse a body that is not declared as JSON
        declared = request.headers.get("content-type", "")[:100] or "none"
        sentence = f"The Content-Type of the body must be application/json, not {declared}."
        return ApiError(400, sentence, code="invalid_content_type").respond()
    if not place:
        return ApiError(400, "The body must be a JSON object.").respond()
    param = _write_path(place)[:200]
    if problem["type"] == "extra_forbidden":
        return ApiError(400, f"Unknown field: {param}. Leave it out.", param, "unknown_parameter").respond()
    return ApiError(400, f"{param}: {problem['msg']}.", param, "invalid_value").respond()


async def answer_api_error(_: Request, error: Exception) -> JSONResponse:
    """Return the response for an ApiError or a UserError."""
    assert isinstance(error, ApiError | UserError)  # noqa: S101  # the kinds that this handler is registered for
    return (error if isinstance(error, ApiError) else from_user_error(error)).respond()


async def answer_unknown_route(request: Request, error: Exception) -> JSONResponse:
    """Return 404 or 405 for an unknown route or method, and 400 for a body that cannot be decoded, such as one not in UTF-8."""
    assert isinstance(error, HTTPException)  # noqa: S101  # the one kind that this handler is registered for
    if error.status_code == 400:
        return ApiError(400, _INVALID_JSON, code="invalid_json").respond()
    response = no_such_route(request, error.status_code)
    response.headers.update(error.headers or {})  # Allow, of a 405
    return response


def no_such_route(request: Request, status: int = 404) -> JSONResponse:
    """Return the response for an unknown route or method."""
    path = request.url.path[:200]
    return ApiError(status, f"There is no {request.method} {path}.", code="unknown_url").respond()


async def answer_unexpected_error(_: Request, __: Exception) -> JSONResponse:
    """Return 500. Starlette logs the error."""
    return ApiError(
        500, "The server failed unexpectedly; its log has the details. Try again.", code="unexpected"
    ).respond()


def _write_path(place: list[Any]) -> str:
    """Return `messages[0].content` for `("messages", 0, "content")`. Names of union members are omitted."""
    path = ""
    for part in place:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier() and part.islower():
            path += f".{part}" if path else part
    return path or str(place[0])
