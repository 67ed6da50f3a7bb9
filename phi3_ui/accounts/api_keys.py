"""API keys: the owner's name, a dot, and a secret whose Argon2 hash is in the settings."""

import hashlib
import secrets
import threading
from collections.abc import Iterable

from phi3_ui.accounts.passwords import Passwords
from phi3_ui.accounts.throttle import LoginThrottle

_SECRET_BYTES = 32


class TooManyAttemptsError(Exception):
    """Too many failed attempts: `seconds` must pass before another key is checked."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def create_key(name: str) -> tuple[str, str]:
    """Return a new key for a user, and its secret, of which to store the hash."""
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    return f"{name}.{secret}", secret


class ApiKeys:
    """Finds the owners of keys. Thread-safe.

    Checking a hash takes 50 ms, too long for every request, so the digests of valid keys are cached in memory only.
    """

    def __init__(self, hashes: Iterable[tuple[str, str]]) -> None:
        """`hashes` are pairs of a name and the hash of a secret, at least one. A name may have several, to rotate keys."""
        layers = list[dict[str, str]]()
        for name, one in hashes:
            layer = next((layer for layer in layers if name not in layer), None)
            if layer is None:
                layers.append(layer := {})
            layer[name] = one
        self._secrets = [Passwords(layer) for layer in layers]
        self._throttle = LoginThrottle()
        self._salt = secrets.token_bytes()
        self._lock = threading.Lock()
        self._known = set[bytes]()

    def find_owner(self, key: str, address: str) -> str | None:
        """Return the name of the key's owner; None if the key is invalid. `address` is the caller's. Raises TooManyAttemptsError."""
        name, _, secret = key.rpartition(".")
        digest = hashlib.blake2b(key.encode(errors="replace"), key=self._salt).digest()
        with self._lock:
            if digest in self._known:
                return name
        if seconds := self._throttle.claim_attempt(name, address):
            raise TooManyAttemptsError(seconds)
        if not any(one.is_correct(name, secret) for one in self._secrets):
            return None
        self._throttle.clear_attempts(name, address)
        with self._lock:
            self._known.add(digest)
        return name
