"""Malicious YAML is rejected quickly and without using much memory."""

import time

import pytest
import yaml  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.store.registry.mlmodel_yaml import MAX_BYTES, MAX_DEPTH, MAX_NODES, parse_yaml

_BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_BOMB, f"{MAX_NODES:,} values"),
        ("a: &a [*a]", "contains it"),
        ("a: &a {b: [*a]}", "contains it"),
        ("[" * 100_000, "levels deep"),
        ("a:\n" + "".join(f"{'  ' * depth}b:\n" for depth in range(1, 100)), f"{MAX_DEPTH} levels"),
        ("a: " + "x" * MAX_BYTES, f"{MAX_BYTES:,} bytes"),
        ("[" + "x," * (MAX_NODES + 1) + "]", f"{MAX_NODES:,} values"),
        ("a: 1" + ":59" * 300_000, "number is too long"),
        ("a: -1" + ":59" * 40 + ".5", "number is too long"),
        ("1" + ":59" * 300_000 + ": a", "number is too long"),
        ("a: 1\na: 2", "'a' is repeated"),
        ("a: &a {b: 1}\nc: {<<: *a}", "merges"),
        ("a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("{", "in line"),
        ("\0", "ReaderError"),
        *(
            (f"a: !!{tag}", "has a tag")
            for tag in ("bool x", "int ''", "float 1:1:", "timestamp x", "str x", "binary x")
        ),
        ("a: !!int '" + "1:" * 300_000 + "1'", "has a tag"),
        ("a: ! x\nb: !!set [x]", "expected a mapping"),
        ("? [a]\n: 1\n? {b: 1}\n: 2", "unhashable"),
    ],
)
def test_hostile_documents_are_refused_at_once(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_yaml(text)


def test_an_alias_is_counted_as_a_copy() -> None:
    text = "a: &a [1, 2]\nb: *a\nc: {d: *a}"
    assert parse_yaml(text) == {"a": [1, 2], "b": [1, 2], "c": {"d": [1, 2]}}


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8).filter(lambda key: key != "<<"), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=30)
@given(_values)
def test_dumped_documents_are_parsed_like_safe_load(value: object) -> None:
    assert parse_yaml(yaml.safe_dump(value)) == yaml.safe_load(yaml.safe_dump(value))


def test_a_bomb_is_refused_after_its_first_levels() -> None:
    start = time.thread_time()
    with pytest.raises(ValueError, match="values"):
        parse_yaml(_BOMB)
    assert time.thread_time() - start < 5, "it would take hours"
