"""Numbers in a folder that someone else made: refused in a sentence, or answered by the engine that can."""

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

_IN_MODEL = ("context_length", "vocab_size", "eos_token_id", "type")
_IN_DECODER = ("num_hidden_layers", "num_key_value_heads", "head_size", "filename")
_whole = st.one_of(st.integers(-3, 20), st.sampled_from([64, 4096, 8192, 2**24, 2**31 - 1, 2**31, 2**63, 10**30]))
_anything = st.one_of(_whole, st.none(), st.booleans(), st.floats(), st.text(max_size=60), st.lists(_whole, max_size=3))


@pytest.fixture(scope="module")
def folder(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rewritten graph, whose genai_config.json may be changed."""
    folder = tmp_path_factory.mktemp("foreign") / "onnx"
    shutil.copytree(tiny_onnx, folder, copy_function=os.link)
    for file, content in make_batched_graph(folder, "cpu")[0].items():
        file.write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def config(folder: Path) -> Any:
    return json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))


def write(folder: Path, content: Any) -> None:
    file = folder / "genai_config.json"
    file.unlink()  # it is linked to the original
    file.write_text(json.dumps(content), encoding="utf-8")


def change(config: Any, name: str, value: Any) -> Any:
    changed = copy.deepcopy(config)
    (changed["model"] if name in _IN_MODEL else changed["model"]["decoder"])[name] = value
    return changed


@hypothesis_settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from(_IN_MODEL + _IN_DECODER), _anything, min_size=1, max_size=3))
def test_other_numbers_are_refused_in_a_sentence_or_the_batched_engine_says_why(
    folder: Path, config: Any, changes: dict[str, Any]
) -> None:
    changed = config
    for name, value in changes.items():
        changed = change(changed, name, value)
    write(folder, changed)
    declared = OnnxFolder(folder)
    if refusal := find_refusal(declared):
        assert refusal.startswith("genai_config.json of onnx is damaged: ")
        assert "\n" not in refusal
        assert len(refusal) < 200
        return
    opened = open_or_explain(declared)
    if isinstance(opened, Batching):
        assert opened.reason in ("graph", "failed")
        assert opened.detail
        return
    row = opened.allocate(3)
    assert row
    assert np.isfinite(opened.prefill(row, [1, 2, 3])).all()


def find_refusal(declared: OnnxFolder) -> str:
    try:
        declared.check()
    except ValueError as error:
        return str(error)
    return ""


def open_or_explain(declared: OnnxFolder) -> Engine | Batching:
    try:
        return _open_batched(declared, 1, 2_000_000)
    except NotBatchedError as error:
        return error.batching


@pytest.mark.parametrize("content", [[], {}, {"model": 3}, {"model": {}}, {"model": {"decoder": []}}, "text"], ids=repr)
def test_a_config_without_its_sections_is_refused_in_a_sentence(folder: Path, content: Any) -> None:
    write(folder, content)
    with pytest.raises(ValueError, match=r"^genai_config\.json of onnx is damaged: [^\n]+\.$"):
        Phi3Onnx().load(folder)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("num_hidden_layers", 1, "number of layers differs"),
        ("num_hidden_layers", 3, "number of layers differs"),
        ("num_key_value_heads", 1, "attention heads"),
        ("vocab_size", 7, "vocabulary"),
    ],
)
def test_the_graph_is_compared_with_what_the_folder_declares(
    folder: Path, config: Any, name: str, value: int, why: str
) -> None:
    write(folder, change(config, name, value))
    with pytest.raises(NotBatchedError, match=why) as refused:
        _open_batched(OnnxFolder(folder), 1, 2_000_000)
    assert refused.value.batching.reason == "graph"
