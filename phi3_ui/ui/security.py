"""Security headers: the page loads nothing from other hosts and runs only its own scripts, whatever a model writes."""

import secrets

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Gradio needs inline styles, and compiles the templates and scripts of gr.HTML and the `js=` of events: without
# 'unsafe-eval', the page does not start. A Space shows the app in a frame on its host's page.
_POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'nonce-{nonce}' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "frame-src 'none'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self' https://huggingface.co",
    ]
)

_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


_NONCE = "phi3_script_nonce"


def get_script_nonce(scope: Scope) -> str:
    """Return the value that the `nonce` attribute of the response's inline scripts must have."""
    return str(scope["state"][_NONCE])


class SecurityHeaders:
    """ASGI middleware that adds the headers to every response and does not touch its body, streamed or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        nonce = secrets.token_urlsafe(16)
        policy = _POLICY.format(nonce=nonce)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update({"Content-Security-Policy": policy, **_HEADERS})
            await send(message)

        state = {**scope.get("state", {}), _NONCE: nonce}
        await self._app({**scope, "state": state}, receive, send_with_headers)
