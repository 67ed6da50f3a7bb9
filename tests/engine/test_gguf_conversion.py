"""The NumPy conversion of a GGUF file yields the same model as transformers' own loader."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from models.gguf_to_checkpoint import convert
from tests.support.tiny_gguf import write_gguf


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_weights_and_config_equal_those_loaded_by_transformers(tmp_path: Path, tied: bool) -> None:
    gguf = write_gguf(tmp_path / "tiny.gguf", tied=tied)
    folder = convert(gguf, tmp_path / "checkpoint", lambda _done, _total: None)

    expected = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=gguf.name, dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(folder)

    state, expected_state = model.state_dict(), expected.state_dict()
    assert list(state) == list(expected_state)
    assert all(torch.equal(state[name], expected_state[name]) for name in state)
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(model(ids).logits, expected(ids).logits)

    ours, theirs = AutoConfig.from_pretrained(folder).to_dict(), expected.config.to_dict()
    different = {name for name in theirs if ours.get(name) != theirs[name]}
    # transformers adds fields about the file and omits the class name.
    assert different <= {"quantization_config", "_model_name_or_path", "_name_or_path", "architectures"}
