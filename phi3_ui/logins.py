"""The accounts in the settings, names with Argon2 hashes, and the user ids of accounts elsewhere."""

import re
from pathlib import Path

from phi3_ui.errors import UserError

Logins = tuple[tuple[str, str], ...]


def parse_logins(variable: str, text: str, plain: str = "plain_password") -> Logins:
    """Names and hashes from name:hash, separated by lines or commas, which hashes hold too.

    `variable` is the environment variable that holds them. UserError: bad_setting, `plain` for what is no hash; neither shows it.
    """
    logins = list[tuple[str, str]]()
    for login in filter(None, (part.strip() for part in re.split(r"\n|,(?=\s*(?:[\w.@+-]{1,64}:|$))", text))):
        name, _, password = login.partition(":")
        if not re.fullmatch(r"[\w.@+-]{1,64}", name) or not password:
            shown = f"{name}:…" if ":" in login else "…"  # which may be a secret alone
            raise UserError("bad_setting", name=variable, value=shown, wanted="name:hash,name:hash")
        if not re.fullmatch(r"\$argon2(id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+", password):
            raise UserError(plain, name=name, source=variable)
        logins.append((name, password))
    return tuple(logins)


def read_logins(variable: str, file: Path, plain: str = "plain_password") -> Logins:
    """As `parse_logins`, from the file that an environment variable names."""
    try:
        return parse_logins(variable, file.read_text(encoding="utf-8"), plain)
    except (OSError, UnicodeDecodeError) as error:
        wanted = "a file with a name:hash on each line"
        raise UserError("bad_setting", name=variable, value=str(file), wanted=wanted) from error


def name_provider_user(name: object, subject: object) -> str:
    """The user id of somebody who signed in with Hugging Face. ValueError for what no name and subject of theirs can be.

    No account in the settings has a colon. The subject stays the same when others take a name that was given up.
    """
    if not isinstance(name, str) or not isinstance(subject, str):
        raise ValueError("no text")
    if not re.fullmatch(r"[\w.-]{1,96}", name, re.ASCII) or not re.fullmatch(r"[\w-]{1,64}", subject, re.ASCII):
        raise ValueError(f"{name[:100]!r}, {subject[:100]!r}")
    return f"hf:{name}:{subject}"


def display_name(user_id: str) -> str:
    """What the page calls a user."""
    return user_id.split(":")[1] if user_id.startswith("hf:") else user_id
