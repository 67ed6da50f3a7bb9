"""Who sends a request: the owner of an API key or, where the page needs no login either, a visitor by network address."""

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
    """Who sends a request."""

    user_id: str
    """Whose chats its answers become. All callers without a key are one user, whose store entries name no address."""
    person: Person
    """Whose limits it counts for, and whose conversations it may go on with."""
    records: bool
    """Whether the request's header lets answers become traces."""
    gpu_token: str | None = field(default=None, repr=False)
    """See ChatRequest."""


class Callers:
    """Knows the callers. Thread-safe; `identify` may take 50 ms."""

    def __init__(self, settings: Settings) -> None:
        self._keys = ApiKeys(settings.api_keys) if settings.api_keys else None
        self._is_closed = settings.has_login

    def identify(self, request: Request) -> Caller:
        """Who sends a request. ApiError 401 without the right key, 429 after too many wrong ones."""
        records = request.headers.get(TRACE_HEADER, "").strip().lower() != "off"
        gpu_token = read_gpu_token(request.headers)
        address = normalize_address(request.client.host if request.client else "")
        if self._keys is None:
            if self._is_closed:
                sentence = "This app needs an API key, and has none. Its administrator can add one to PHI3_UI_API_KEYS."
                raise ApiError(401, sentence, code="no_api_keys")
            return Caller(_ANYBODY, Person(f"{_ANYBODY} {address}", address), records, gpu_token)
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            sentence = "This app needs an API key. Send it in the header Authorization, as “Bearer KEY”."
            raise ApiError(401, sentence, code="missing_api_key")
        try:
            owner = self._keys.find_owner(key.strip(), address)
        except TooManyAttemptsError as error:
            refusal = ApiError(
                429, f"Too many wrong API keys. Try again in {error.seconds} s.", code="too_many_attempts"
            )
            refusal.retry_after = error.seconds
            raise refusal from error
        if owner is None:
            raise ApiError(
                401, "This API key is not right. Ask the administrator for another one.", code="invalid_api_key"
            )
        return Caller(owner, Person(owner), records, gpu_token)
