"""Checks passwords against their Argon2 hashes."""

import logging
import secrets
import threading
from collections.abc import Mapping

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

logger = logging.getLogger(__name__)

_MAX_CHECKS = 2  # concurrent; a check takes 64 MB and a core for about 50 ms


class Passwords:
    """Checks the passwords of accounts. Thread-safe."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        """`hashes` are Argon2 hashes by account name, at least one."""
        self._hashes = dict(hashes)
        self._hasher = PasswordHasher.from_parameters(extract_parameters(next(iter(self._hashes.values()))))
        self._decoy = self._hasher.hash(secrets.token_urlsafe())
        self._checks = threading.BoundedSemaphore(_MAX_CHECKS)

    def is_correct(self, name: str, password: str) -> bool:
        """Return whether the password is that of the account. An unknown account takes just as long."""
        stored = self._hashes.get(name)
        with self._checks:
            try:
                self._hasher.verify(stored or self._decoy, password)
            except VerifyMismatchError:
                return False
            except (VerificationError, InvalidHashError):
                logger.exception("The password hash of %s is invalid; create a new one with hash-password", name)
                return False
        return stored is not None
