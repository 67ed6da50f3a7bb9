"""A stand-in for Hugging Face's OpenID provider: real HTTP, and id tokens signed with RS256."""

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
    """Return the key pair called `name`; "provider" is the provider's own."""
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"})


def encode(part: dict[str, Any]) -> str:
    """Encode a part of a JWT."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@dataclass
class Provider:
    """The stand-in provider. Tests inject faults by assigning its attributes."""

    url: str = ""
    user: str = "anna"
    subject: str = "5f17f0a0925b9863e28ad517"
    redirects: set[str] = field(default_factory=set)
    """The app's registered redirect URIs."""
    requests: list[str] = field(default_factory=list)
    """The requested paths."""
    status: int = 200
    """The status of every response; 500 simulates an outage."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Overrides entries of the discovery document."""
    claims: dict[str, Any] = field(default_factory=dict)
    """Overrides claims of the id token; None omits a claim."""
    sign_with: str = "provider"
    """The name of the signing key; the key id in the token is always the provider's."""
    algorithm: str = "RS256"
    """With HS256, the secret is the provider's public key."""
    id_token: str | None = None
    """Replaces the signed id token."""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    """The authorization requests, by code that has not been redeemed yet."""

    def authorize(self, url: str) -> str:
        """Consent to the app's authorization request at `url`, as in a browser, and return the URL that it redirects to."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert url.startswith(f"{self.url}/oauth/authorize?")
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT_ID
        assert set(query["scope"].split()) == {"openid", "profile"}
        assert query["code_challenge_method"] == "S256"
        assert query["redirect_uri"] in self.redirects
        code = secrets.token_urlsafe(8)
        self.codes[code] = query
        return f"{query['redirect_uri']}?code={code}&state={query['state']}"

    def sign(self, query: dict[str, str]) -> str:
        """Return the signed id token for an authorization request."""
        now = int(time.time())
        claims = {
            **{"iss": self.url, "aud": CLIENT_ID, "sub": self.subject, "preferred_username": self.user},
            **{"iat": now, "exp": now + 600, "nonce": query["nonce"], **self.claims},
        }
        payload = {name: value for name, value in claims.items() if value is not None}
        header, key = {"alg": self.algorithm, "kid": "provider"}, make_key(self.sign_with)
        if self.algorithm != "HS256":
            return jwt.encode(header, payload, key, algorithms=[self.algorithm])
        signed = f"{encode(header)}.{encode(payload)}"
        signature = hmac.digest(key.as_pem(private=False), signed.encode(), "sha256")
        return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"

    def redeem(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """Return the token endpoint's status and response."""
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if authorization != f"Basic {basic}":
            return 401, {"error": "invalid_client"}
        query = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if not query or query["code_challenge"] != challenge or query["redirect_uri"] != form.get("redirect_uri"):
            return 400, {"error": "invalid_grant"}
        id_token = self.sign(query) if self.id_token is None else self.id_token
        return 200, {"access_token": "x", "token_type": "bearer", "id_token": id_token}


@contextmanager
def serve_provider() -> Iterator[Provider]:
    """Serve the stand-in, and yield it."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            endpoints = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
            documents: dict[str, Any] = {
                "/.well-known/openid-configuration": {
                    "issuer": provider.url,
                    **{name: f"{provider.url}/oauth/{path}" for name, path in endpoints.items()},
                    **provider.metadata,
                },
                "/oauth/jwks": {"keys": [make_key("provider").as_dict(private=False)]},
            }
            self._respond(200 if self.path in documents else 404, documents.get(self.path, {}))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self._respond(*provider.redeem(form, self.headers.get("Authorization", "")))

        def _respond(self, status: int, value: object) -> None:
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
