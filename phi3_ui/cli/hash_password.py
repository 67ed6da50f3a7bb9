"""`hash-password` and `create-api-key`: make the hashes that the settings hold in place of passwords and API keys."""

import sys

import click

_MIN_LENGTH = 8


@click.command("hash-password")
@click.argument("name")
def hash_password(name: str) -> None:
    """Print NAME:HASH for PHI3_UI_LOGINS or a line of PHI3_UI_LOGINS_FILE. Asks for the password, or reads it as one line from a pipe."""
    from argon2 import PasswordHasher

    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < _MIN_LENGTH:
        raise click.UsageError(f"The password is too short; use {_MIN_LENGTH} characters or more.")
    print(f"{name}:{PasswordHasher().hash(password)}")


@click.command("create-api-key")
@click.argument("name")
def create_api_key(name: str) -> None:
    """Create an API key for NAME. Prints the key to standard error, and NAME:HASH for PHI3_UI_API_KEYS or a line of PHI3_UI_API_KEYS_FILE.

    If NAME is also a login, answers are recorded as chats of that user. The key itself is not stored.
    """
    from argon2 import PasswordHasher

    from phi3_ui.accounts.api_keys import create_key
    from phi3_ui.logins import parse_logins

    key, secret = create_key(name)
    line = f"{name}:{PasswordHasher().hash(secret)}"
    parse_logins("PHI3_UI_API_KEYS", line)  # rejects a name that the setting would reject
    print(f"The API key, for {name} only: {key}", file=sys.stderr)
    print(line)
