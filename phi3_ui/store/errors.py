"""What the store's client raises, as one sentence for a person."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException

from phi3_ui.errors import UserError

_FORBIDDEN = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
# What SQLite and PostgreSQL say of a database that may be read only.
_READ_ONLY = ("readonly database", "read-only", "permission denied")


@contextmanager
def translate_store_errors(uri: str) -> Iterator[None]:
    """Turns what the client of the store `uri` raises in the block into UserError: store_read_only, store_unreachable."""
    try:
        yield
    except (MlflowException, OSError) as error:
        detail = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        code = "store_read_only" if _forbidden(error) else "store_unreachable"
        raise UserError(code, uri=uri, detail=detail) from error


def is_missing(error: MlflowException) -> bool:
    return bool(error.error_code == "RESOURCE_DOES_NOT_EXIST")


def _forbidden(error: Exception) -> bool:
    if isinstance(error, MlflowException) and error.error_code in _FORBIDDEN:
        return True
    return isinstance(error, PermissionError) or any(words in str(error).lower() for words in _READ_ONLY)
