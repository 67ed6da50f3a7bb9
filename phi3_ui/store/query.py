"""Filter strings and pagination for searches in an MLflow store."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any


def quote(value: str) -> str:
    """Return `value` as a quoted literal of MLflow's filter language, which has no escapes.

    Raises:
        ValueError: `value` cannot be quoted: it contains both kinds of quotation mark, or ends with a backslash.
    """
    # MLflow's parser treats a backslash before the closing quotation mark as an escape, and reads past the literal.
    if not value.endswith("\\"):
        if "'" not in value:
            return f"'{value}'"
        if '"' not in value:
            return f'"{value}"'
    raise ValueError(f"cannot be quoted in a filter: {value!r}")


def metadata_filter(values: dict[str, str]) -> str:
    """Return a filter for traces whose metadata has all of these values. Raises ValueError like `quote`."""
    return " AND ".join(f"metadata.`{key}` = {quote(value)}" for key, value in values.items())


def paginate(search: Callable[..., Iterable[Any]], **arguments: Any) -> Iterator[Any]:
    """Yield every result of a client's search method, requesting pages as they are consumed."""
    token = None
    while True:
        page: Any = search(**arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
