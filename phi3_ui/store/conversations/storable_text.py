"""Makes text storable in every database: PostgreSQL rejects NUL, and all reject lone surrogates."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from phi3_ui.chat.surrogates import replace_surrogates

_Value = TypeVar("_Value")


def make_storable(value: _Value) -> _Value:
    """Return the value with U+FFFD for such characters in its strings, also inside dataclasses and collections.

    A value without them is returned unchanged.
    """
    return cast(_Value, _convert(value))


def _convert(value: Any) -> Any:
    if isinstance(value, str):
        return replace_surrogates(value).replace("\0", "\ufffd")
    if isinstance(value, tuple | list):
        return type(value)(map(_convert, value))
    if isinstance(value, Mapping):
        return {_convert(name): _convert(one) for name, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        old = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        changed = {name: new for name, one in old.items() if (new := _convert(one)) != one}
        return replace(value, **changed) if changed else value
    return value
