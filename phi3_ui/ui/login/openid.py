"""Signs users in with an OpenID Connect provider: the authorization code flow, with PKCE, state and nonce."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import requests
from authlib.common.security import is_secure_transport
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

logger = logging.getLogger(__name__)

Problem = Literal["denied", "expired", "invalid", "throttled", "unavailable"]
"""Why a sign-in failed; ui/render/front_page.py has the messages."""

_TIMEOUT = 10  # seconds, for each response of the provider
_RETRY_SECONDS = 5  # seconds before a provider that did not respond is tried again
_LEEWAY = 60  # seconds of clock skew between provider and server
_SCOPE = "openid profile"
_ESSENTIAL: jwt.ClaimsOption = {"essential": True}
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class SignInError(Exception):
    """The sign-in failed."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True)
class Attempt:
    """Secrets of one sign-in attempt, which only the browser that began it can return."""

    state: str
    """Returned by the provider unchanged."""
    nonce: str
    """Contained in the provider's signed ID token."""
    verifier: str
    """Proves to the provider that the code is redeemed by the client that requested it (PKCE)."""

    @classmethod
    def create(cls) -> "Attempt":
        """Create an attempt with random secrets."""
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48))

    def to_dict(self) -> dict[str, str]:
        """Return the fields in a form that JSON can represent."""
        return asdict(self)


class OpenIdClient:
    """This app as a client of one provider. Its methods block on the network. Thread-safe."""

    def __init__(
        self, provider: str, client_id: str, client_secret: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`provider` is the issuer's URL, without `/.well-known/openid-configuration`."""
        self._provider = provider.rstrip("/")
        self._client_id, self._client_secret = client_id, client_secret
        self._clock = clock
        self._lock = threading.Lock()
        self._metadata: dict[str, str] | None = None
        self._failed_at: float | None = None

    def begin(self, attempt: Attempt, redirect_uri: str) -> str:
        """Return the provider's URL where the user gives consent. Raises SignInError: unavailable, invalid."""
        endpoint = self._find_endpoint("authorization_endpoint")
        url, _ = self._session(redirect_uri).create_authorization_url(
            endpoint, state=attempt.state, code_verifier=attempt.verifier, nonce=attempt.nonce
        )
        return str(url)

    def finish(self, attempt: Attempt, redirect_uri: str, code: str) -> Mapping[str, Any]:
        """Redeem the code and return the verified claims. Raises SignInError: expired, invalid, unavailable."""
        endpoint, keys_uri = self._find_endpoint("token_endpoint"), self._find_endpoint("jwks_uri")
        try:
            with self._session(redirect_uri) as session:
                token = session.fetch_token(endpoint, code=code, code_verifier=attempt.verifier, timeout=_TIMEOUT)
            keys = _get_json(keys_uri)
        except OAuthError as error:
            logger.warning("The provider refused a code: %s", error)
            raise SignInError("expired" if error.error == "invalid_grant" else "invalid") from error
        except requests.RequestException as error:
            raise _unavailable(error) from error
        except ValueError as error:
            raise _invalid(error) from error
        return self._verify(token.get("id_token"), keys, attempt.nonce)

    def _verify(self, id_token: object, keys: Any, nonce: str) -> Mapping[str, Any]:
        registry = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY,
            iss={"essential": True, "value": self._provider},
            nonce={"essential": True, "value": nonce},
            aud=_ESSENTIAL,
            exp=_ESSENTIAL,
            iat=_ESSENTIAL,
            sub=_ESSENTIAL,
        )
        try:
            claims = jwt.decode(str(id_token), KeySet.import_key_set(keys), algorithms=["RS256"]).claims
            registry.validate(claims)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise _invalid(error) from error
        if claims["aud"] not in (
            self._client_id,
            [self._client_id],
        ):  # a token that is also for other clients may come from one of them
            raise _invalid(ValueError("the audience is another client"))
        return claims

    def _session(self, redirect_uri: str) -> OAuth2Session:
        return OAuth2Session(
            self._client_id,
            self._client_secret,
            scope=_SCOPE,
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic",  # noqa: S106 - a method's name
        )

    def _find_endpoint(self, name: str) -> str:
        with self._lock:
            if self._metadata is None:
                if self._failed_at is not None and self._clock() - self._failed_at < _RETRY_SECONDS:
                    raise SignInError("unavailable")
                try:
                    self._metadata = self._discover()
                except SignInError:
                    self._failed_at = self._clock()
                    raise
            return self._metadata[name]

    def _discover(self) -> dict[str, str]:
        try:
            found = _get_json(f"{self._provider}/.well-known/openid-configuration")
        except requests.RequestException as error:
            raise _unavailable(error) from error
        try:
            endpoints = {name: str(found[name]) for name in _ENDPOINTS}
            issuer = str(found["issuer"]).rstrip("/")
        except (KeyError, TypeError) as error:
            raise _invalid(error) from error
        if issuer != self._provider or not all(map(is_secure_transport, endpoints.values())):
            raise _invalid(ValueError(f"the configuration of {issuer} has other or insecure addresses"))
        return endpoints


def _get_json(url: str) -> Any:
    response = requests.get(url, timeout=_TIMEOUT)
    response.raise_for_status()
    return response.json()


def _unavailable(error: Exception) -> SignInError:
    logger.warning("The provider is unreachable: %s", error)
    return SignInError("unavailable")


def _invalid(error: Exception) -> SignInError:
    logger.warning("The provider's response is not valid: %s", error)
    return SignInError("invalid")
