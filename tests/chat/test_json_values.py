"""The values of a JSON text are counted as a parser would, however the text is split into pieces."""

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from phi3_ui.chat.json_values import ValueCounter

_TEXTS = st.text(alphabet='a",[]{}\\:é\u2028\0')
_VALUES = st.recursive(
    st.none() | st.integers() | _TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(_TEXTS, inner),
    max_leaves=20,
)


def count(text: bytes, size: int = 65536) -> int:
    counter = ValueCounter()
    for start in range(0, len(text), size):
        counter.add(text[start : start + size])
    return counter.count


def count_parsed(value: Any) -> int:
    """Count the commas and opening brackets of a value."""
    if not isinstance(value, list | dict):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(len(value) - 1, 0) + sum(map(count_parsed, inner))


@settings(deadline=None, max_examples=40)
@given(value=_VALUES, size=st.integers(1, 9), is_ascii=st.booleans())
@example(value=["\\", ",", '\\"', "[["], size=1, is_ascii=True)
def test_commas_and_brackets_count_outside_of_strings_alone(value: Any, size: int, is_ascii: bool) -> None:
    assert count(json.dumps(value, ensure_ascii=is_ascii).encode(), size) == count_parsed(value)


def test_another_encoding_hides_no_values() -> None:
    text = '{"\\"":0, "x": [' + "[]," * 50 + "[]]}"
    for encoding in ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        encoded = text.encode(encoding)
        assert json.loads(encoded)
        assert {count(encoded, size) >= 100 for size in (1, 2, 3, 1000)} == {True}
