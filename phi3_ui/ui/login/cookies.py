"""The login cookies, and the URL under which the browser knows the app."""

import hashlib
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from phi3_ui.settings import Settings


class LoginCookies:
    """Sets cookies that scripts cannot read and that are sent only to this app."""

    def __init__(self, settings: Settings) -> None:
        self._root_path = settings.root_path
        # Cookies are shared by all ports of a host, and other apps may run on other ports.
        self._prefix = f"phi3-session-{hashlib.sha256(str(settings.home).encode()).hexdigest()[:8]}"
        # A Space shows the page in a frame on another site.
        self._is_framed = bool(settings.space_id)

    def get(self, request: Request, purpose: str = "") -> str | None:
        """Return the cookie for `purpose`, by default the session's."""
        return request.cookies.get(self._prefix + purpose)

    def set(self, request: Request, response: Response, value: str, max_age: int, purpose: str = "") -> None:
        """Set a cookie for `max_age` seconds; if set over HTTPS, it is sent only over HTTPS."""
        response.set_cookie(
            self._prefix + purpose,
            value,
            max_age=max_age,
            path=self.find_path(request) or "/",
            httponly=True,
            secure=request.url.scheme == "https",
            samesite="none" if self._is_framed else "lax",
        )

    def delete(self, request: Request, response: Response, purpose: str = "") -> None:
        """Delete a cookie."""
        self.set(request, response, "", 0, purpose)

    def find_path(self, request: Request) -> str:
        """Return the app's path in the browser, without a trailing slash: the prefix stripped by a proxy, and the mount path."""
        return urlsplit(self._root_path).path.rstrip("/") + str(request.scope.get("root_path", ""))

    def find_url(self, request: Request) -> str:
        """Return the app's URL in the browser, without a trailing slash. Not trustworthy: a client can claim any host."""
        root = urlsplit(self._root_path)
        if root.netloc:
            return f"{root.scheme}://{root.netloc}{self.find_path(request)}"
        host = request.headers.get("x-forwarded-host", request.url.netloc).partition(",")[0].strip()
        return f"{request.url.scheme}://{host}{self.find_path(request)}"
