"""Logs users in and out, and identifies the user of a request."""

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from phi3_ui.accounts.address import normalize_address
from phi3_ui.accounts.passwords import Passwords
from phi3_ui.accounts.throttle import LoginThrottle
from phi3_ui.i18n.translate import detect_language, tr
from phi3_ui.settings import Settings
from phi3_ui.ui.login.cookies import LoginCookies
from phi3_ui.ui.login.login_sessions import MAX_AGE, LoginSessions
from phi3_ui.ui.render.front_page import LoginMethods

if TYPE_CHECKING:
    from phi3_ui.ui.login.hugging_face import HuggingFaceLogin

_MAX_BODY = 8192  # bytes


class Login:
    """The login of an app with accounts.

    Gradio's own login keeps plain-text passwords, does not limit attempts, ends no session, and logs users out when they follow a link.
    """

    def __init__(self, settings: Settings) -> None:
        """Requires `settings.has_login`."""
        self._passwords = Passwords(dict(settings.logins)) if settings.logins else None
        self._throttle = LoginThrottle()
        self._sessions = LoginSessions(settings.session_hours * 3600)
        self._cookies = LoginCookies(settings)
        self._hugging_face = self._open_hugging_face(settings) if settings.oauth_client_id else None

    def _open_hugging_face(self, settings: Settings) -> "HuggingFaceLogin":
        from phi3_ui.ui.login.hugging_face import HuggingFaceLogin  # the import takes a quarter of a second

        return HuggingFaceLogin(settings, self._cookies, self._throttle, self._start_session)

    @property
    def methods(self) -> LoginMethods:
        """How users can log in."""
        return LoginMethods(self._passwords is not None, self._hugging_face is not None)

    @property
    def routes(self) -> set[str]:
        """The paths that `add_routes` adds."""
        passwords = {"/login"} if self._passwords else set()
        hugging_face = {self._hugging_face.BEGIN, self._hugging_face.FINISH} if self._hugging_face else set()
        return {"/logout"} | passwords | hugging_face

    def add_routes(self, app: FastAPI) -> None:
        """Add the routes to log in and out."""
        app.add_route("/logout", self._log_out, methods=["POST"])
        if self._passwords:
            app.add_route("/login", self._log_in, methods=["POST"])
        if self._hugging_face:
            app.add_route(self._hugging_face.BEGIN, self._begin_at_hugging_face, methods=["GET"])
            app.add_route(self._hugging_face.FINISH, self._hugging_face.finish, methods=["GET"])

    def find_user(self, request: Request) -> str | None:
        """Return the id of the user who sends a request; None without a session."""
        return self._sessions.find(self._cookies.get(request))

    def _start_session(self, request: Request, response: Response, user_id: str) -> None:
        """Add the cookie of a new session to the response; the new session replaces the browser's previous one."""
        self._sessions.end(self._cookies.get(request))
        self._cookies.set(request, response, self._sessions.start(user_id), MAX_AGE)

    async def _log_in(self, request: Request) -> Response:
        """Respond with 200 and a cookie, 401, or 429 and the seconds to wait; `detail` is a sentence in the visitor's language."""
        if not is_from_this_site(request, is_absent_allowed=True):
            return Response(status_code=403)
        length = request.headers.get("content-length", "")
        # Given both headers, the server follows Transfer-Encoding, which a browser's form never sends.
        if not length.isdecimal() or int(length) > _MAX_BODY or "transfer-encoding" in request.headers:
            return Response(status_code=413)
        async with request.form(max_files=0, max_fields=4) as form:
            name, password = (_text(form.get(field)) for field in ("username", "password"))
        language = detect_language(request.headers.get("accept-language"))
        address = normalize_address(request.client.host if request.client else "")
        if wait := self._throttle.claim_attempt(name, address):
            sentence = tr(language, "login.throttled", count=wait)
            return JSONResponse({"detail": sentence}, status_code=429, headers={"Retry-After": str(wait)})
        if not self._passwords or not await asyncio.to_thread(self._passwords.is_correct, name, password):
            return JSONResponse({"detail": tr(language, "login.refused")}, status_code=401)
        self._throttle.clear_attempts(name, address)
        response = JSONResponse({"success": True})
        self._start_session(request, response, name)
        return response

    async def _begin_at_hugging_face(self, request: Request) -> Response:
        """Start a sign-in unless the user is logged in: a link on another site must not change who is logged in."""
        if not self._hugging_face or self.find_user(request):
            return RedirectResponse("../", status_code=303)
        return await self._hugging_face.begin(request)

    async def _log_out(self, request: Request) -> Response:
        """End the session, and show the login page."""
        if not is_from_this_site(request):
            return Response(status_code=403)
        self._sessions.end(self._cookies.get(request))
        response = RedirectResponse("./", status_code=303)
        self._cookies.delete(request, response)
        return response


def _text(value: UploadFile | str | None) -> str:
    return value if isinstance(value, str) else ""


def is_from_this_site(request: Request, is_absent_allowed: bool = False) -> bool:
    """Whether a page of this site sent the request or, if allowed, a program that sends no site."""
    headers = request.headers
    if site := headers.get("sec-fetch-site"):
        return site == "same-origin"
    if origin := headers.get("origin"):  # a browser, over plain HTTP
        return urlsplit(origin).netloc in (headers.get("host"), headers.get("x-forwarded-host"))
    return is_absent_allowed
