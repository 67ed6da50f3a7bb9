"""A stand-in for the OpenID provider of Hugging Face: real HTTP, and answers signed with RS256."""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID, CLIENT_SECRET = "the-app", "s3cret"


@cache
def make_key(name: str) -> RSAKey:
    """A key pair; the provider's own is "provider"."""
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"})


def encode(part: dict[str, Any]) -> str:
    """A part of a JWT."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@dataclass
class Provider:
    """The stand-in. Faults are set by assigning."""

    url: str = ""
    user: str = "anna"
    subject: str = "5f17f0a0925b9863e28ad517"
    redirects: set[str] = field(default_factory=set)
    """The addresses of the app that are registered."""
    requests: list[str] = field(default_factory=list)
    """The paths that were asked for."""
    status: int = 200
    """Of every answer; 500: it is out of order."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Takes the place of what the discovery document says."""
    claims: dict[str, Any] = field(default_factory=dict)
    """Takes the place of what the signed answer says; None: it does not say it."""
    sign_with: str = "provider"
    """The name of the key; its id is always that of the provider's own."""
    algorithm: str = "RS256"
    """HS256: with the provider's public key as the secret."""
    id_token: str | None = None
    """Takes the place of the signed answer."""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    """What was asked for, by the code that was not redeemed yet."""

    def agree(self, url: str) -> str:
        """What the person's browser does: opens the address that the app sent it to, agrees, and is sent back to this one."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert url.startswith(f"{self.url}/oauth/authorize?")
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert set(asked["scope"].split()) == {"openid", "profile"}
        assert asked["code_challenge_method"] == "S256"
        assert asked["redirect_uri"] in self.redirects
        code = secrets.token_urlsafe(8)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?code={code}&state={asked['state']}"

    def sign(self, asked: dict[str, str]) -> str:
        """The signed answer to who asked so."""
        now = int(time.time())
        claims = {
            **{"iss": self.url, "aud": CLIENT_ID, "sub": self.subject, "preferred_username": self.user},
            **{"iat": now, "exp": now + 600, "nonce": asked["nonce"], **self.claims},
        }
        said = {name: value for name, value in claims.items() if value is not None}
        head, key = {"alg": self.algorithm, "kid": "provider"}, make_key(self.sign_with)
        if self.algorithm != "HS256":
            return jwt.encode(head, said, key, algorithms=[self.algorithm])
        signed = f"{encode(head)}.{encode(said)}"
        signature = hmac.digest(key.as_pem(private=False), signed.encode(), "sha256")
        return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"

    def redeem(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """The answer of the token endpoint."""
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if authorization != f"Basic {basic}":
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if not asked or asked["code_challenge"] != challenge or asked["redirect_uri"] != form.get("redirect_uri"):
            return 400, {"error": "invalid_grant"}
        id_token = self.sign(asked) if self.id_token is None else self.id_token
        return 200, {"access_token": "x", "token_type": "bearer", "id_token": id_token}


@contextmanager
def serve_provider() -> Iterator[Provider]:
    """Serve the stand-in until the block ends."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            endpoints = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
            found: dict[str, Any] = {
                "/.well-known/openid-configuration": {
                    "issuer": provider.url,
                    **{name: f"{provider.url}/oauth/{path}" for name, path in endpoints.items()},
                    **provider.metadata,
                },
                "/oauth/jwks": {"keys": [make_key("provider").as_dict(private=False)]},
            }
            self._answer(200 if self.path in found else 404, found.get(self.path, {}))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self._answer(*provider.redeem(form, self.headers.get("Authorization", "")))

        def _answer(self, status: int, value: object) -> None:
            provider.requests.append(self.path)
            if provider.status != 200:
                status, value = provider.status, {}
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
