"""The table of sampling parameters: parsing, restoring, and agreement with the ONNX wrapper."""

import ast
import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.chat.sampling_params import MAX_SEED, SAMPLING_PARAMS, SamplingParam, parse_params
from phi3_ui.chat.types import GenerationParams
from phi3_ui.errors import UserError
from phi3_ui.paths import ROOT

_BY_NAME = {param.name: param for param in SAMPLING_PARAMS}
_NAMES = pytest.mark.parametrize("param", SAMPLING_PARAMS, ids=lambda param: param.name)


def test_the_table_lists_every_field_once() -> None:
    assert sorted(_BY_NAME) == sorted(field.name for field in fields(GenerationParams))
    assert len(_BY_NAME) == len(SAMPLING_PARAMS)


@_NAMES
def test_a_default_is_valid_and_survives_the_control(param: SamplingParam) -> None:
    assert param.is_valid(param.default)
    assert param.parse(param.control_default) == param.default


def _wrapper_defaults() -> dict[str, Any]:
    """Return the defaults of the wrapper's options, read from its source, since importing it would load the engine."""
    tree = ast.parse((ROOT / "models" / "phi3_onnx.py").read_text(encoding="utf-8"))
    options = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and {"max_tokens", "temperature"}
        <= {
            line.target.id
            for line in node.body
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
        }
    )
    return {
        line.target.id: ast.literal_eval(line.value)
        for line in options.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value
    }


def test_the_onnx_wrapper_has_the_same_defaults() -> None:
    declared = _wrapper_defaults()

    assert declared.pop("seed") == -1, "the wrapper's params are typed, so -1 stands for a random seed"
    assert declared.pop("n") == 1
    assert declared == {name: param.default for name, param in _BY_NAME.items() if name != "seed"}


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("temperature", 0, 0.0),
        ("temperature", "0.7", 0.7),
        ("max_tokens", 16.0, 16),
        ("top_k", None, None),
        ("top_k", 0, 0),
        ("seed", " 7 ", 7),
        ("seed", "", None),
        ("seed", MAX_SEED, MAX_SEED),
        ("stop", "a\n\n b\n", ("a", " b")),
        ("stop", "a\u2028b\r\nc\fd\re", ("a\u2028b", "c\fd", "e")),
        ("stop", ["a", "b"], ("a", "b")),
        ("stop", "", ()),
        ("stop", None, ()),
    ],
)
def test_raw_values_are_parsed(name: str, raw: Any, value: Any) -> None:
    assert _BY_NAME[name].parse(raw) == value


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("temperature", -0.1),
        ("temperature", math.inf),
        ("temperature", math.nan),
        ("temperature", "hot"),
        ("temperature", True),
        ("temperature", [1]),
        ("top_p", 0),
        ("top_p", 1.01),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_tokens", 1e400),
        ("top_k", -1),
        ("repetition_penalty", 0),
        ("presence_penalty", 2.1),
        ("frequency_penalty", -2.1),
        ("stop", ["x"] * 17),
        ("stop", [1]),
        ("stop", 5),
        ("seed", -1),
        ("seed", 2**31),
        ("seed", "1.5"),
        ("seed", "seven"),
    ],
)
def test_invalid_values_are_reported_by_name(name: str, raw: Any) -> None:
    with pytest.raises(UserError) as caught:
        _BY_NAME[name].parse(raw)

    assert caught.value.code == ("bad_seed" if name == "seed" else "invalid_param")
    assert name in str(caught.value).lower()


@_NAMES
@pytest.mark.parametrize("raw", [math.nan, {"a": 1}, [[1]], -5, object()])
def test_invalid_saved_state_falls_back_to_the_default(param: SamplingParam, raw: Any) -> None:
    assert param.restore_control(raw) == param.control_default


def test_valid_saved_state_is_restored_as_the_control_shows_it() -> None:
    saved = {"temperature": 1.35, "max_tokens": 77, "top_k": None, "seed": "7", "stop": "a\nb", "presence_penalty": -2}

    assert {name: _BY_NAME[name].restore_control(value) for name, value in saved.items()} == saved


def test_a_value_beyond_the_slider_is_not_restored() -> None:
    assert _BY_NAME["temperature"].is_valid(3.0)
    assert _BY_NAME["temperature"].restore_control(3.0) == 0.2


def test_unsupported_parameters_are_ignored_even_if_invalid() -> None:
    values = {"temperature": 0.5, "seed": "not a number", "unknown": 1}

    assert parse_params(values, {"temperature"}) == GenerationParams(temperature=0.5)


_raw = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.text(max_size=2))


@settings(deadline=None)
@given(st.sampled_from(SAMPLING_PARAMS), _raw)
def test_every_parsed_or_restored_value_is_valid(param: SamplingParam, raw: Any) -> None:
    try:
        assert param.is_valid(param.parse(raw))
    except UserError:
        assert param.restore_control(raw) == param.control_default
    assert param.is_valid(param.parse(param.restore_control(raw)))
