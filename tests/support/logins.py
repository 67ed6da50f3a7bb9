"""Logins with hashes that take no time to check."""

from argon2 import PasswordHasher

_QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def hash_logins(**passwords: str) -> str:
    """What PHI3_UI_LOGINS takes, from passwords by name."""
    return ",".join(f"{name}:{_QUICK.hash(password)}" for name, password in passwords.items())
