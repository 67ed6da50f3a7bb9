"""Logins with password hashes that are fast to check."""

from argon2 import PasswordHasher

_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def hash_logins(**passwords: str) -> str:
    """Return a value for PHI3_UI_LOGINS from passwords by name."""
    return ",".join(f"{name}:{_HASHER.hash(password)}" for name, password in passwords.items())
