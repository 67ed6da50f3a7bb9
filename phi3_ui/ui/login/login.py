"""Logs people in and out, and knows who sends a request."""

import asyncio
import hashlib
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from phi3_ui.i18n.translate import detect_language, tr
from phi3_ui.settings import Settings
from phi3_ui.ui.login.address import normalize_address
from phi3_ui.ui.login.login_sessions import MAX_AGE, LoginSessions
from phi3_ui.ui.login.passwords import Passwords
from phi3_ui.ui.login.throttle import LoginThrottle

_MAX_BODY = 8192  # bytes


class Login:
    """The accounts of an app that has some.

    Gradio's own login keeps plain passwords, counts no attempts, ends no session, and logs people out when they follow a link.
    """

    def __init__(self, settings: Settings) -> None:
        """`settings.logins` is not empty."""
        self._passwords = Passwords(dict(settings.logins))
        self._throttle = LoginThrottle()
        self._sessions = LoginSessions(settings.session_hours * 3600)
        # Cookies are shared by all ports of a host, where other apps may run.
        self._cookie = f"phi3-session-{hashlib.sha256(str(settings.home).encode()).hexdigest()[:8]}"
        # A Space shows the page in a frame of another site.
        self._is_framed = bool(settings.space_id)

    def add_routes(self, app: FastAPI) -> None:
        """Add the routes to log in and out."""
        app.add_route("/login", self._log_in, methods=["POST"])
        app.add_route("/logout", self._log_out, methods=["POST"])

    def find_user(self, request: Request) -> str | None:
        """The name of the account that sends a request; None without a session."""
        return self._sessions.find(request.cookies.get(self._cookie))

    async def _log_in(self, request: Request) -> Response:
        """Status 200 with a cookie, 401, or 429 with the seconds to wait; `detail` is a sentence in the visitor's language."""
        if not _is_from_this_site(request, is_absent_allowed=True):
            return Response(status_code=403)
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY:
            return Response(status_code=413)
        async with request.form(max_files=0, max_fields=4) as form:
            name, password = (_text(form.get(field)) for field in ("username", "password"))
        language = detect_language(request.headers.get("accept-language"))
        address = normalize_address(request.client.host if request.client else "")
        if wait := self._throttle.claim_attempt(name, address):
            sentence = tr(language, "login.throttled", count=wait)
            return JSONResponse({"detail": sentence}, status_code=429, headers={"Retry-After": str(wait)})
        if not await asyncio.to_thread(self._passwords.is_correct, name, password):
            return JSONResponse({"detail": tr(language, "login.refused")}, status_code=401)
        self._throttle.forgive(name, address)
        response = JSONResponse({"success": True})
        response.set_cookie(
            self._cookie,
            self._sessions.start(name),
            max_age=MAX_AGE,
            httponly=True,
            secure=request.url.scheme == "https",
            samesite="none" if self._is_framed else "lax",
        )
        return response

    async def _log_out(self, request: Request) -> Response:
        """End the session, and show the login."""
        if not _is_from_this_site(request):
            return Response(status_code=403)
        self._sessions.end(request.cookies.get(self._cookie))
        response = RedirectResponse("./", status_code=303)
        response.delete_cookie(self._cookie)
        return response


def _text(value: UploadFile | str | None) -> str:
    return value if isinstance(value, str) else ""


def _is_from_this_site(request: Request, is_absent_allowed: bool = False) -> bool:
    """Whether a page of this site sends the request, or, if allowed, a program that names no site."""
    headers = request.headers
    if site := headers.get("sec-fetch-site"):
        return site == "same-origin"
    if origin := headers.get("origin"):  # a browser, over plain HTTP
        return urlsplit(origin).netloc in (headers.get("host"), headers.get("x-forwarded-host"))
    return is_absent_allowed
