"""The accounts in the settings, names with Argon2 hashes, and the user ids of accounts at an OpenID provider."""

import re
from pathlib import Path

from phi3_ui.errors import UserError

Logins = tuple[tuple[str, str], ...]


def parse_logins(variable: str, text: str, plain: str = "plain_password") -> Logins:
    """Parse names and hashes from name:hash, separated by newlines or commas; hashes may contain commas, too.

    `variable` is the name of the environment variable.

    Raises:
        UserError: bad_setting; the code `plain` for a value that is not a hash. Neither shows the value.
    """
    logins = list[tuple[str, str]]()
    for login in filter(None, (part.strip() for part in re.split(r"\n|,(?=\s*(?:[\w.@+-]{1,64}:|$))", text))):
        name, _, password = login.partition(":")
        if not re.fullmatch(r"[\w.@+-]{1,64}", name) or not password:
            shown = f"{name}:…" if ":" in login else "…"  # without a colon, it may be just a secret
            raise UserError("bad_setting", name=variable, value=shown, wanted="name:hash,name:hash")
        if not re.fullmatch(r"\$argon2(id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+", password):
            raise UserError(plain, name=name, source=variable)
        logins.append((name, password))
    return tuple(logins)


def read_logins(variable: str, file: Path, plain: str = "plain_password") -> Logins:
    """Like `parse_logins`, but read the file that an environment variable names."""
    try:
        return parse_logins(variable, file.read_text(encoding="utf-8"), plain)
    except (OSError, UnicodeDecodeError) as error:
        wanted = "a file with one name:hash per line"
        raise UserError("bad_setting", name=variable, value=str(file), wanted=wanted) from error


def name_provider_user(name: object, subject: object) -> str:
    """Return the user id of a user who signed in with Hugging Face. Raise ValueError for an invalid name or subject.

    It contains colons, which no account in the settings does, and the subject, which differs if another user takes over the name.
    """
    if not isinstance(name, str) or not isinstance(subject, str):
        raise ValueError("not a string")
    if not re.fullmatch(r"[\w.-]{1,96}", name, re.ASCII) or not re.fullmatch(r"[\w-]{1,64}", subject, re.ASCII):
        raise ValueError(f"{name[:100]!r}, {subject[:100]!r}")
    return f"hf:{name}:{subject}"


def display_name(user_id: str) -> str:
    """Return the name of a user as shown on the page."""
    return user_id.split(":")[1] if user_id.startswith("hf:") else user_id
