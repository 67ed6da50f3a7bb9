"""Filter strings and pagination for searches in an MLflow store."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any


def quote(value: str) -> str:
    """`value` as a quoted literal of MLflow's filter language, in which no character can be escaped.

    Raises:
        ValueError: No literal can hold `value`: it contains both kinds of quotation mark, or ends with a backslash.
    """
    # MLflow's parser takes a backslash before the closing quotation mark for an escape, and reads on past the literal.
    if not value.endswith("\\"):
        if "'" not in value:
            return f"'{value}'"
        if '"' not in value:
            return f'"{value}"'
    raise ValueError(f"cannot be quoted in a filter: {value!r}")


def metadata_filter(values: dict[str, str]) -> str:
    """A filter for traces whose metadata has all of these values. Raises ValueError as `quote` does."""
    return " AND ".join(f"metadata.`{key}` = {quote(value)}" for key, value in values.items())


def paginate(search: Callable[..., Iterable[Any]], **arguments: Any) -> Iterator[Any]:
    """Yield every result of a client's search method, requesting one page after the other as they are consumed."""
    token = None
    while True:
        page: Any = search(**arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
