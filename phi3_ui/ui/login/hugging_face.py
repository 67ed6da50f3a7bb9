"""Signs users in with their Hugging Face accounts.

Gradio's own login keeps the tokens in the browser for a month, ends no session on the server, and logs users out when they follow a link.
"""

import asyncio
import hmac
import logging
import secrets
from collections.abc import Callable

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from phi3_ui.accounts.address import normalize_address
from phi3_ui.accounts.throttle import LoginThrottle
from phi3_ui.logins import name_provider_user
from phi3_ui.settings import Settings
from phi3_ui.ui.login.cookies import LoginCookies
from phi3_ui.ui.login.openid import Attempt, OpenIdClient, Problem, SignInError

logger = logging.getLogger(__name__)

_ATTEMPT = "-attempt"  # purpose of the cookie
_ATTEMPT_SECONDS = 600  # to give consent on the provider's page
_HOME = "../"  # relative to the two routes
_AT_ONCE = 2  # concurrent requests to the provider, each of which occupies a thread


class HuggingFaceLogin:
    """The two routes of the flow: to the provider and back."""

    BEGIN, FINISH = "/login/huggingface", "/login/callback"
    """Their paths. A Space registers the second one."""

    def __init__(
        self,
        settings: Settings,
        cookies: LoginCookies,
        throttle: LoginThrottle,
        start_session: Callable[[Request, Response, str], None],
    ) -> None:
        """`start_session` adds the cookie of a new session for a user id to a response."""
        secret = settings.oauth_client_secret.get_secret_value()
        self._client = OpenIdClient(settings.openid_provider_url, settings.oauth_client_id, secret)
        self._space_host = settings.space_host.partition(",")[0].strip()  # further ones are the owner's custom domains
        self._cookies = cookies
        self._throttle = throttle
        self._start_session = start_session
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._signed = URLSafeTimedSerializer(secrets.token_urlsafe(32))

    async def begin(self, request: Request) -> Response:
        """Redirect the browser to the provider."""
        attempt = Attempt.create()
        try:
            async with self._at_once:
                url = await asyncio.to_thread(self._client.begin, attempt, self._redirect_uri(request))
        except SignInError as error:
            return _explain(error.problem)
        response = RedirectResponse(url, status_code=303)
        self._cookies.set(request, response, str(self._signed.dumps(attempt.to_dict())), _ATTEMPT_SECONDS, _ATTEMPT)
        return response

    async def finish(self, request: Request) -> Response:
        """Start a session for the user who returns from the provider, or explain why not. Either way, the attempt is over."""
        try:
            user = await self._find_user(request)
        except SignInError as error:
            response = _explain(error.problem)
        else:
            response = RedirectResponse(_HOME, status_code=303)
            self._start_session(request, response, user)
        self._cookies.delete(request, response, _ATTEMPT)
        return response

    async def _find_user(self, request: Request) -> str:
        answer = request.query_params
        attempt = self._read_attempt(request)
        if not attempt or not hmac.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise SignInError("expired")
        if "error" in answer or not answer.get("code"):
            logger.info("The provider did not sign the user in: %s", answer.get("error"))
            raise SignInError("denied")
        address = normalize_address(request.client.host if request.client else "")
        name = f"hf:{address}"  # a placeholder: the user is not known yet
        if self._throttle.claim_attempt(name, address):
            raise SignInError("throttled")
        async with self._at_once:
            claims = await asyncio.to_thread(self._client.finish, attempt, self._redirect_uri(request), answer["code"])
        self._throttle.clear_attempts(name, address)
        try:
            return name_provider_user(claims.get("preferred_username"), claims["sub"])
        except ValueError as error:
            logger.warning("The provider returned a user whose name is not valid here: %s", error)
            raise SignInError("invalid") from error

    def _read_attempt(self, request: Request) -> Attempt | None:
        try:
            return Attempt(**self._signed.loads(self._cookies.get(request, _ATTEMPT) or "", max_age=_ATTEMPT_SECONDS))
        except BadData:
            return None

    def _redirect_uri(self, request: Request) -> str:
        """Return the URL to which the provider redirects the browser; the provider accepts only registered ones."""
        if self._space_host:
            return f"https://{self._space_host}{self.FINISH}"
        return f"{self._cookies.find_url(request)}{self.FINISH}"


def _explain(problem: Problem) -> RedirectResponse:
    """Redirect to the login page, which explains the problem."""
    return RedirectResponse(f"{_HOME}?login={problem}", status_code=303)
