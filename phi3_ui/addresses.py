"""Validates URIs and host names in the settings: tracking stores, pages, and hosts."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from phi3_ui.errors import UserError

_SQLITE_MARK = b"SQLite format 3\0"


def sqlite_uri(file: Path) -> str:
    """Return the URI of a SQLite store."""
    return f"sqlite:///{file}"


def check_tracking_uri(uri: str) -> None:
    """Raise UserError (store_in_folder, path_unusable or not_a_database) unless `uri` may be a tracking store."""
    scheme, colon, path = uri.partition(":")
    # A Windows drive letter is not a scheme.
    if scheme == "file" or len(scheme) == 1 or (not colon and uri != "databricks"):
        raise UserError("store_in_folder", uri=uri)
    if scheme.startswith("sqlite"):
        _check_sqlite_path(uri, path)


def _check_sqlite_path(uri: str, path: str) -> None:
    """Raise UserError for a file that is not a SQLite database, or a path that SQLAlchemy would parse as another one."""
    path, mark, parameters = path.partition("?")
    is_path = mark and not re.fullmatch(r"\w+=[^&]*(&\w+=[^&]*)*", parameters)
    escape = re.search(r"%[0-9A-Fa-f]{2}", path)
    if is_path or escape:
        character = escape[0] if escape else "?"
        raise UserError("path_unusable", name="MLFLOW_TRACKING_URI", value=uri, character=character)
    file = Path(path.removeprefix("///"))
    if path.startswith("///") and file.name and (file.is_dir() or (file.is_file() and not _is_sqlite(file))):
        raise UserError("not_a_database", uri=uri, file=str(file))


def _is_sqlite(file: Path) -> bool:
    """Return whether a file is a SQLite database, empty, or unreadable, which MLflow will report."""
    try:
        with file.open("rb") as opened:
            return opened.read(len(_SQLITE_MARK)) in (b"", _SQLITE_MARK)
    except OSError:
        return True


def page_url(value: str) -> str | None:
    """Return `value` without user and password, which links must not show; None if it is not the URL of a page."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        return None
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def parse_host(value: str) -> str | None:
    """Return the name or address in a `Host` header, in lower case, without port, brackets and trailing dot; None if invalid."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]+))(?::\d*)?", value, re.ASCII)
    return (found[1] or found[2]).lower().removesuffix(".") or None if found else None
