"""Errors of MLflow's client as UserErrors."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException

from phi3_ui.errors import UserError

_FORBIDDEN_CODES = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
# SQLite's and PostgreSQL's messages for a read-only database.
_READ_ONLY_MESSAGES = ("readonly database", "read-only", "permission denied")


@contextmanager
def translate_store_errors(uri: str) -> Iterator[None]:
    """Raise UserError store_read_only or store_unreachable for errors of the client of the store `uri` in the block."""
    try:
        yield
    except (MlflowException, OSError) as error:
        detail = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        code = "store_read_only" if _is_forbidden(error) else "store_unreachable"
        raise UserError(code, uri=uri, detail=detail) from error


def is_missing(error: MlflowException) -> bool:
    """Whether the requested object does not exist."""
    return bool(error.error_code == "RESOURCE_DOES_NOT_EXIST")


def _is_forbidden(error: Exception) -> bool:
    if isinstance(error, MlflowException) and error.error_code in _FORBIDDEN_CODES:
        return True
    return isinstance(error, PermissionError) or any(text in str(error).lower() for text in _READ_ONLY_MESSAGES)
