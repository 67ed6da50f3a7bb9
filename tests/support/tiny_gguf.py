"""A GGUF file of a few kilobytes with a random Llama model, written by the `gguf` package."""

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quantize

TEMPLATE = "{% for message in messages %}<|im_start|>{{ message.content }}<|im_end|>{% endfor %}"
HEADS, KV_HEADS, HEAD_DIM, HIDDEN, FEED_FORWARD, BLOCKS = 4, 2, 32, 128, 64, 2

_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"]
_QUANTIZATIONS = {
    "attn": GGMLQuantizationType.Q4_1,
    "ffn": GGMLQuantizationType.Q8_0,
    "token": GGMLQuantizationType.F16,
}


def write_gguf(file: Path, *, tied: bool = True, extra: dict[str, Any] | None = None, **fields: str) -> Path:
    """Write the model to `file`, quantised as in _QUANTIZATIONS with norms in fp32, and return `file`.

    `fields` override general.architecture and tokenizer.ggml.pre; `extra` are additional tensors.
    """
    writer = GGUFWriter(file, fields.get("architecture", "llama"))
    _write_metadata(writer, fields.get("pre", "smollm"))
    for name, values in {**_tensors(tied), **(extra or {})}.items():
        quantization = next((value for start, value in _QUANTIZATIONS.items() if f".{start}" in f".{name}"), None)
        if quantization is None or values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, quantize(values, quantization), raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _write_metadata(writer: GGUFWriter, pre: str) -> None:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*_SPECIAL, *letters, "Ġ", "ab", "Ġa"]
    writer.add_name("Tiny Llama")
    writer.add_block_count(BLOCKS)
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(100_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * len(_SPECIAL) + [TokenType.NORMAL] * (len(tokens) - len(_SPECIAL)))
    writer.add_token_merges(["a b", "Ġ a"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)


def _tensors(tied: bool) -> dict[str, Any]:
    random = np.random.default_rng(7)

    def matrix(rows: int, columns: int) -> Any:
        return random.standard_normal((rows, columns), dtype=np.float32)

    vocabulary = len(_SPECIAL) + 29
    tensors = {"token_embd.weight": matrix(vocabulary, HIDDEN), "output_norm.weight": matrix(1, HIDDEN)[0]}
    if not tied:
        tensors["output.weight"] = matrix(vocabulary, HIDDEN)
    for block in range(BLOCKS):
        shapes = {
            "attn_q": (HEADS * HEAD_DIM, HIDDEN),
            "attn_k": (KV_HEADS * HEAD_DIM, HIDDEN),
            "attn_v": (KV_HEADS * HEAD_DIM, HIDDEN),
            "attn_output": (HIDDEN, HEADS * HEAD_DIM),
            "ffn_gate": (FEED_FORWARD, HIDDEN),
            "ffn_up": (FEED_FORWARD, HIDDEN),
            "ffn_down": (HIDDEN, FEED_FORWARD),
        }
        tensors |= {f"blk.{block}.{name}.weight": matrix(*shape) for name, shape in shapes.items()}
        tensors |= {f"blk.{block}.{name}.weight": matrix(1, HIDDEN)[0] for name in ("attn_norm", "ffn_norm")}
    return tensors
