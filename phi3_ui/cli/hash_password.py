"""`hash-password`: what the setting PHI3_UI_LOGINS takes in place of a password."""

import sys

import click

_MIN_LENGTH = 8


@click.command("hash-password")
@click.argument("name")
def hash_password(name: str) -> None:
    """Print NAME:HASH for PHI3_UI_LOGINS or a line of PHI3_UI_LOGINS_FILE. Asks for the password, or reads a line of a pipe."""
    from argon2 import PasswordHasher

    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < _MIN_LENGTH:
        raise click.UsageError(f"The password is too short; use {_MIN_LENGTH} characters or more.")
    print(f"{name}:{PasswordHasher().hash(password)}")
