"""Refuses requests that other sites send through a browser, under a host name of their own (DNS rebinding) or from their own pages."""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from phi3_ui.addresses import parse_host
from phi3_ui.api.errors import from_user_error, is_api_path
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr_error
from phi3_ui.settings import Settings
from phi3_ui.ui.front_page import find_language
from phi3_ui.ui.login.login import is_from_this_site

_SHOWN = 100  # characters of a refused name


class HostGuard:
    """ASGI middleware: 421 for a host that is not the app's, 403 for a POST from another site's page.

    A site whose name resolves to this machine looks to a browser like the app's own origin: only the host name tells them apart.
    Starlette's TrustedHostMiddleware supports neither IP addresses nor X-Forwarded-Host.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        # A browser sends the login cookie to no other name, and a Space is reachable only under its host's names.
        self._has_any_name = not settings.hosts and (settings.has_login or bool(settings.space_id))
        self._is_local = _is_loopback(settings.server_name.strip("[]"))
        self._names = _find_names(settings, self._is_local)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refused = [host for host in _called_hosts(Headers(scope=scope)) if not self._is_allowed(host)]
        if scope["type"] == "websocket":
            if refused:
                await send({"type": "websocket.close"})
            else:
                await self._app(scope, receive, send)
            return
        request = Request(scope)
        if refused:
            error, status = UserError("host_refused", host=refused[0][:_SHOWN]), 421
        elif scope["method"] == "POST" and not is_from_this_site(request, is_absent_allowed=True):
            error, status = UserError("other_site"), 403
        else:
            await self._app(scope, receive, send)
            return
        if is_api_path(str(scope["path"]).removeprefix(scope.get("root_path", ""))):
            response: Response = from_user_error(error, status).respond()
        else:
            response = PlainTextResponse(tr_error(find_language(request), error), status, {"Cache-Control": "no-store"})
        await response(scope, receive, send)

    def _is_allowed(self, host: str) -> bool:
        if self._has_any_name:
            return True
        name = parse_host(host)
        if name is None:
            return False
        if "*" in self._names or name in self._names or name.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._is_local  # an IP address cannot be rebound


def _called_hosts(headers: Headers) -> list[str]:
    """Return the hosts that a request names; a browser always names one.

    X-Forwarded-Host never replaces `Host`: a page can send it from this machine, where proxies are trusted by default.
    """
    forwarded = headers.get("x-forwarded-host", "").partition(",")[0].strip()
    return [*headers.getlist("host"), *filter(None, [forwarded])]


def _find_names(settings: Settings, is_local: bool) -> frozenset[str]:
    """Return the host names that the app may be called by."""
    names = {"localhost", *settings.hosts, urlsplit(settings.root_path).hostname}
    names |= {parse_host(name.strip()) for name in settings.space_host.split(",")}
    if not is_local:
        machine = socket.gethostname().lower()
        names |= {machine, f"{machine.partition('.')[0]}.local", parse_host(settings.server_name)}
    return frozenset(name for name in names if name)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
