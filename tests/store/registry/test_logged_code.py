"""Uses of API that ONNX Runtime GenAI has removed, in source files and pickles."""

import ast
import contextlib
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.wrapper_code import WRAPPER
from phi3_ui.store.registry.logged_code import find_removed_api_in_pickle, find_removed_api_in_source

_LONG_SOURCE = (
    "import onnxruntime_genai as og\n"
    + "x = [1, (2, {3: 4})]\n" * 3000
    + "params = og.GeneratorParams(m)\nparams.input_ids = 1\n"
)


@pytest.mark.parametrize(
    ("source", "removed"),
    [
        ("import onnxruntime_genai as og\np = og.GeneratorParams(m)\np.input_ids = [1]", [".input_ids"]),
        ("from onnxruntime_genai import Model\nm = Model('x')\nm.generate(p)", [".generate()"]),
        ("import onnxruntime_genai\ngenerator.compute_logits()", [".compute_logits()"]),
        ("import onnxruntime_genai as og\nx = tokens.input_ids\nother.generate(1)", []),
        ("params.input_ids = [1]\nmodel.generate(params)", []),
        (WRAPPER.read_text(), []),
    ],
)
def test_only_removed_functions_of_the_engine_are_found(source: str, removed: list[str]) -> None:
    assert find_removed_api_in_source(source) == removed


@given(st.binary())
def test_random_bytes_contain_no_removed_api(data: bytes) -> None:
    assert find_removed_api_in_pickle(data) == []


@given(st.text())
def test_random_text_contains_no_removed_api_and_is_a_syntax_error_at_most(text: str) -> None:
    with contextlib.suppress(SyntaxError, ValueError):
        assert find_removed_api_in_source(text) == []


def test_code_is_parsed_by_several_threads_at_once() -> None:
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(find_removed_api_in_source, [_LONG_SOURCE] * 12))
    assert found == [[".input_ids"]] * 12


class _ParsesWhenCollected:
    """Part of a reference cycle, so that the garbage collector finalizes it."""

    def __init__(self) -> None:
        self._cycle = self

    def __del__(self) -> None:
        ast.parse("a + b * (c + d)")


@pytest.fixture
def collected() -> Iterator[None]:
    """Collect the test's own garbage, whose finalizers would disturb a later parse."""
    yield
    gc.collect()


@pytest.mark.usefixtures("collected")
def test_a_finalizer_that_parses_during_a_parse_does_no_harm() -> None:
    for _ in range(5):
        for _ in range(20):
            _ParsesWhenCollected()
        assert find_removed_api_in_source(_LONG_SOURCE) == [".input_ids"]
