"""Identifies callers: the owner of an API key or, if the page needs no login either, a visitor by network address."""

from dataclasses import dataclass, field

from starlette.requests import Request

from phi3_ui.accounts.address import normalize_address
from phi3_ui.accounts.api_keys import ApiKeys, TooManyAttemptsError
from phi3_ui.accounts.gpu_quota import read_gpu_token
from phi3_ui.accounts.quotas import Person
from phi3_ui.api.errors import ApiError
from phi3_ui.settings import Settings

TRACE_HEADER = "x-phi3-trace"
"""`off`: the answer is not recorded."""

_ANYBODY = "api"


@dataclass(frozen=True)
class Caller:
    """The sender of a request."""

    user_id: str
    """The user who owns the recorded chats. All callers without a key are one user, so that no address is stored."""
    person: Person
    """The user whose limits apply, and whose conversations may be continued."""
    records: bool
    """Whether the request's header allows answers to be recorded as traces."""
    gpu_token: str | None = field(default=None, repr=False)
    """See ChatRequest."""


class Callers:
    """Identifies callers. Thread-safe; `identify` may take 50 ms."""

    def __init__(self, settings: Settings) -> None:
        self._keys = ApiKeys(settings.api_keys) if settings.api_keys else None
        self._is_closed = settings.has_login

    def identify(self, request: Request) -> Caller:
        """Return the caller of a request. Raises ApiError 401 without a valid key, 429 after too many invalid ones."""
        records = request.headers.get(TRACE_HEADER, "").strip().lower() != "off"
        gpu_token = read_gpu_token(request.headers)
        address = normalize_address(request.client.host if request.client else "")
        if self._keys is None:
            if self._is_closed:
                sentence = "This app requires an API key, but none is configured. Its administrator can add one to PHI3_UI_API_KEYS."
                raise ApiError(401, sentence, code="no_api_keys")
            return Caller(_ANYBODY, Person(f"{_ANYBODY} {address}", address), records, gpu_token)
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            sentence = "This app requires an API key. Send it in the header Authorization, as “Bearer KEY”."
            raise ApiError(401, sentence, code="missing_api_key")
        try:
            owner = self._keys.find_owner(key.strip(), address)
        except TooManyAttemptsError as error:
            refusal = ApiError(
                429, f"Too many invalid API keys. Try again in {error.seconds} s.", code="too_many_attempts"
            )
            refusal.retry_after = error.seconds
            raise refusal from error
        if owner is None:
            raise ApiError(401, "This API key is invalid. Ask the administrator for a new one.", code="invalid_api_key")
        return Caller(owner, Person(owner), records, gpu_token)
