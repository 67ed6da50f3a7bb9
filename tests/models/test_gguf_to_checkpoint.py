"""Conversion of GGUF to a checkpoint: metadata, and weights identical to those that transformers loads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, dequantize
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from models.checkpoint_facts import client_facts, require_model
from models.gguf_file import GGUFFile
from models.gguf_to_checkpoint import convert, unpermute
from models.weights import file_sha256
from tests.conftest import Weights
from tests.support.tiny_gguf import HEAD_DIM, HEADS, HIDDEN, KV_HEADS, TEMPLATE, write_gguf

# Hash of the checkpoint written by transformers 5.17 from the demo model's GGUF file (from_pretrained, save_pretrained).
DEMO_WEIGHTS_SHA256 = "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd"


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf")


def ignore(_done: int, _total: int) -> None: ...


def test_demo_weights_are_bit_identical_to_those_of_transformers(weights: Weights) -> None:
    assert file_sha256(weights.checkpoint / "model.safetensors") == DEMO_WEIGHTS_SHA256


def test_metadata_and_tensors_equal_those_of_the_gguf_package(gguf: Path) -> None:
    reader, file = GGUFReader(gguf), GGUFFile(gguf)

    assert file.metadata == {
        name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")
    }
    assert list(file.tensors) == [tensor.name for tensor in reader.tensors]
    for tensor in reader.tensors:
        read = file.read_tensor(tensor.name)
        expected = dequantize(tensor.data, tensor.tensor_type).reshape(tuple(reversed(tensor.shape.tolist())))
        np.testing.assert_array_equal(read, expected)
        assert read.dtype == np.float32


def test_unpermute_reverses_the_row_order_of_llama_cpp() -> None:
    original = np.arange(HEADS * HEAD_DIM * HIDDEN, dtype=np.float32).reshape(-1, HIDDEN)

    # LlamaModel.permute of llama.cpp's converter
    stored = original.reshape(HEADS, 2, HEAD_DIM // 2, HIDDEN).swapaxes(1, 2).reshape(original.shape)

    np.testing.assert_array_equal(unpermute(stored, HEADS), original)


def test_checkpoint_is_complete_and_describes_the_model(gguf: Path, tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    folder = convert(gguf, tmp_path / "checkpoint", lambda *report: reports.append(report))

    assert reports == [(0, 3), (1, 3), (2, 3), (3, 3)]
    require_model(folder, "checkpoint")
    facts = client_facts(folder)
    assert facts["chat_template"] == TEMPLATE
    assert facts["special_tokens"] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"]
    assert (facts["bos_token"], facts["eos_token"]) == ("<|im_start|>", "<|im_end|>")
    assert (facts["context_length"], facts["end_tokens"]) == (256, ["<|im_end|>"])
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["num_key_value_heads"] == KV_HEADS
    assert config["tie_word_embeddings"] is True
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("ab a<|im_end|>").tokens == ["ab", "Ġa", "<|im_end|>"]


def test_a_complete_checkpoint_is_not_converted_again(gguf: Path, tmp_path: Path) -> None:
    folder = convert(gguf, tmp_path / "checkpoint", ignore)
    gguf.unlink()

    assert convert(gguf, folder, ignore) == folder


def test_an_untied_output_layer_is_kept(tmp_path: Path) -> None:
    folder = convert(write_gguf(tmp_path / "untied.gguf", tied=False), tmp_path / "checkpoint", ignore)

    assert "lm_head.weight" in load_file(folder / "model.safetensors")
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["tie_word_embeddings"] is False


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": "phi3"}, "architecture phi3 is not supported"),
        ({"pre": "llama-bpe"}, "tokenizer kind llama-bpe is not supported"),
        (
            {"extra": {"rope_freqs.weight": np.ones(16, np.float32)}},
            "tensor rope_freqs.weight belongs to no supported Llama",
        ),
    ],
)
def test_an_unsupported_model_is_refused_and_leaves_no_folder(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    file = write_gguf(tmp_path / "other.gguf", **fields)

    with pytest.raises(ValueError, match=message):
        convert(file, tmp_path / "made" / "checkpoint", ignore)
    assert not list((tmp_path / "made").iterdir())


@pytest.mark.parametrize("content", [b"GGML" + bytes(60), b"GGUF\x01" + bytes(60), b"GGUF\x00\x00\x00\x03" + bytes(60)])
def test_a_file_that_is_not_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.gguf").write_bytes(content)

    with pytest.raises(ValueError, match="not a little-endian GGUF file"):
        GGUFFile(tmp_path / "other.gguf")
