"""Unexpected values in the genai_config.json of third-party folders: a clear error, or a fallback with a reason."""

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.batched_graph import make_batched_graph
from models.phi3_onnx import Phi3Onnx
from models.phi3_onnx_engine import Batching, Engine, OnnxFolder
from models.phi3_onnx_engine.selection import NotBatchedError, _open_batched

_MODEL_FIELDS = ("context_length", "vocab_size", "eos_token_id", "type")
_DECODER_FIELDS = ("num_hidden_layers", "num_key_value_heads", "head_size", "filename")
_integers = st.one_of(st.integers(-3, 20), st.sampled_from([64, 4096, 8192, 2**24, 2**31 - 1, 2**31, 2**63, 10**30]))
_values = st.one_of(
    _integers, st.none(), st.booleans(), st.floats(), st.text(max_size=60), st.lists(_integers, max_size=3)
)


@pytest.fixture(scope="module")
def folder(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the rewritten graph, whose genai_config.json tests may change."""
    folder = tmp_path_factory.mktemp("foreign") / "onnx"
    shutil.copytree(tiny_onnx, folder, copy_function=os.link)
    for file, content in make_batched_graph(folder, "cpu")[0].items():
        file.write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def config(folder: Path) -> Any:
    return json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))


def write_config(folder: Path, content: Any) -> None:
    file = folder / "genai_config.json"
    file.unlink()  # it is a hard link to the original
    file.write_text(json.dumps(content), encoding="utf-8")


def set_field(config: Any, name: str, value: Any) -> Any:
    changed = copy.deepcopy(config)
    (changed["model"] if name in _MODEL_FIELDS else changed["model"]["decoder"])[name] = value
    return changed


@hypothesis_settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from(_MODEL_FIELDS + _DECODER_FIELDS), _values, min_size=1, max_size=3))
def test_arbitrary_values_give_an_error_a_fallback_reason_or_a_working_engine(
    folder: Path, config: Any, changes: dict[str, Any]
) -> None:
    changed = config
    for name, value in changes.items():
        changed = set_field(changed, name, value)
    write_config(folder, changed)
    onnx_folder = OnnxFolder(folder)
    if error := get_check_error(onnx_folder):
        assert error.startswith("genai_config.json of onnx is damaged: ")
        assert "\n" not in error
        assert len(error) < 200
        return
    engine = open_or_explain(onnx_folder)
    if isinstance(engine, Batching):
        assert engine.reason in ("graph", "failed")
        assert engine.detail
        return
    row = engine.allocate(3)
    assert row
    assert np.isfinite(engine.prefill(row, [1, 2, 3])).all()


def get_check_error(onnx_folder: OnnxFolder) -> str:
    try:
        onnx_folder.check()
    except ValueError as error:
        return str(error)
    return ""


def open_or_explain(onnx_folder: OnnxFolder) -> Engine | Batching:
    try:
        return _open_batched(onnx_folder, 1, 2_000_000)
    except NotBatchedError as error:
        return error.batching


@pytest.mark.parametrize("content", [[], {}, {"model": 3}, {"model": {}}, {"model": {"decoder": []}}, "text"], ids=repr)
def test_a_config_without_its_sections_is_rejected_in_one_sentence(folder: Path, content: Any) -> None:
    write_config(folder, content)
    with pytest.raises(ValueError, match=r"^genai_config\.json of onnx is damaged: [^\n]+\.$"):
        Phi3Onnx().load(folder)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("num_hidden_layers", 1, "number of layers differs"),
        ("num_hidden_layers", 3, "number of layers differs"),
        ("num_key_value_heads", 1, "attention heads"),
        ("vocab_size", 7, "vocabulary"),
    ],
)
def test_a_graph_that_contradicts_the_config_is_not_batched(
    folder: Path, config: Any, name: str, value: int, reason: str
) -> None:
    write_config(folder, set_field(config, name, value))
    with pytest.raises(NotBatchedError, match=reason) as raised:
        _open_batched(OnnxFolder(folder), 1, 2_000_000)
    assert raised.value.batching.reason == "graph"
