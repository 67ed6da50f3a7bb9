"""The cookies of logins, and the address that the browser knows the app by."""

import hashlib
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from phi3_ui.settings import Settings


class LoginCookies:
    """Sets cookies that scripts cannot read, for the app alone."""

    def __init__(self, settings: Settings) -> None:
        self._root_path = settings.root_path
        # Cookies are shared by all ports of a host, where other apps may run.
        self._prefix = f"phi3-session-{hashlib.sha256(str(settings.home).encode()).hexdigest()[:8]}"
        # A Space shows the page in a frame of another site.
        self._is_framed = bool(settings.space_id)

    def get(self, request: Request, purpose: str = "") -> str | None:
        """The cookie for `purpose`, by default the session's."""
        return request.cookies.get(self._prefix + purpose)

    def set(self, request: Request, response: Response, value: str, max_age: int, purpose: str = "") -> None:
        """Set a cookie for `max_age` seconds; over HTTPS, only HTTPS carries it."""
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
        """The path of the app in the browser, without a trailing slash: the proxy's that strips it, and where the app is mounted."""
        return urlsplit(self._root_path).path.rstrip("/") + str(request.scope.get("root_path", ""))

    def find_url(self, request: Request) -> str:
        """The address of the app in the browser, without a trailing slash; any client can claim another one."""
        root = urlsplit(self._root_path)
        if root.netloc:
            return f"{root.scheme}://{root.netloc}{self.find_path(request)}"
        host = request.headers.get("x-forwarded-host", request.url.netloc).partition(",")[0].strip()
        return f"{request.url.scheme}://{host}{self.find_path(request)}"
