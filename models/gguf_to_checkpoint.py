"""Convert a GGUF file to a Hugging Face checkpoint folder: fp32 safetensors, tokenizer, chat template, generation config.

This does not use torch and transformers, whose import alone takes longer than the whole conversion.
"""

import argparse
import importlib.metadata
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from models.gguf_file import FloatArray, GGUFFile
from models.stage import Report, atomic_folder, require_space, run_as_program

# Whether the pre-tokenizer named by `tokenizer.ggml.pre` splits numbers into digits. transformers 5.17 ignores the field and
# uses the wrong end-of-sequence token, so its token ids differ from those that the model was trained on.
_SPLITS_DIGITS = {"smollm": True, "gpt-2": False}

# GGUF tensor names of the model and of each block, mapped to the names in LlamaForCausalLM's state dict.
_MODEL_TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_BLOCK_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_SPECIAL_TOKENS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def convert(gguf: Path, folder: Path, report: Report) -> Path:
    """Write the checkpoint of `gguf` to `folder` atomically. Progress is in steps. An existing checkpoint is kept.

    Raises ValueError if the model is not a Llama, or its kind of tokenizer is not supported.
    """
    if (folder / "config.json").exists():
        return folder
    require_space(folder.parent, 8 * gguf.stat().st_size)
    report(0, 3)
    source = GGUFFile(gguf)
    config, tokenizer = _build_llama_config(source), _build_tokenizer(source)
    special = _read_special_tokens(source)
    report(1, 3)
    weights = read_llama_weights(source)
    report(2, 3)
    with atomic_folder(folder) as part:
        from safetensors.numpy import save_file

        save_file(weights, part / "model.safetensors", metadata={"format": "pt"})
        tokenizer.save(str(part / "tokenizer.json"), pretty=True)
        _write_json(part / "tokenizer_config.json", _build_tokenizer_config(source, special))
        (part / "chat_template.jinja").write_text(source.metadata["tokenizer.chat_template"], encoding="utf-8")
        _write_json(part / "config.json", config)
        _write_json(part / "generation_config.json", _build_generation_config(config))
    report(3, 3)
    return folder


def read_llama_weights(source: GGUFFile) -> dict[str, FloatArray]:
    """Read the state dict of LlamaForCausalLM as float32, without lm_head if that is tied to the embedding.

    Raises ValueError for a tensor that does not belong to such a Llama.
    """
    heads = {
        "attn_q": source.metadata["llama.attention.head_count"],
        "attn_k": source.metadata["llama.attention.head_count_kv"],
    }

    def read(name: str) -> tuple[str, FloatArray]:
        weights = source.read_tensor(name)
        kind = name.split(".")[-2]
        return _get_state_dict_name(name), unpermute(weights, heads[kind]) if kind in heads else weights

    # NumPy releases the GIL in its loops, so each core dequantises its own tensor.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(threads.map(read, source.tensors))


def unpermute(weights: FloatArray, heads: int) -> FloatArray:
    """Undo llama.cpp's permutation of the rows of query and key projections; the shape stays (heads · head_dim, hidden).

    For RoPE, llama.cpp pairs neighbouring rows of a head, while Hugging Face's Llama pairs a row of the first half with one of
    the second (`permute` in llama.cpp's conversion/llama.py).
    """
    rows, columns = weights.shape
    half = rows // heads // 2
    return np.ascontiguousarray(weights.reshape(heads, half, 2, columns).swapaxes(1, 2)).reshape(rows, columns)


def _get_state_dict_name(name: str) -> str:
    if name in _MODEL_TENSORS:
        return _MODEL_TENSORS[name]
    match name.split("."):
        case ["blk", number, kind, "weight"] if kind in _BLOCK_TENSORS:
            return f"model.layers.{number}.{_BLOCK_TENSORS[kind]}.weight"
    raise ValueError(f"The tensor {name} belongs to no supported Llama.")


def _build_llama_config(source: GGUFFile) -> dict[str, Any]:
    """Build config.json for LlamaForCausalLM."""
    fields = source.metadata
    if fields["general.architecture"] != "llama":
        raise ValueError(f"The architecture {fields['general.architecture']} is not supported; only llama is.")
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "dtype": "float32",
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "head_dim": fields["llama.rope.dimension_count"],
        "hidden_act": "silu",
        "hidden_size": fields["llama.embedding_length"],
        "initializer_range": 0.02,
        "intermediate_size": fields["llama.feed_forward_length"],
        "max_position_embeddings": fields["llama.context_length"],
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": fields["llama.attention.head_count"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
        "pretraining_tp": 1,
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
        "rope_parameters": {"rope_theta": fields["llama.rope.freq_base"], "rope_type": "default"},
        "tie_word_embeddings": "output.weight" not in source.tensors,
        "transformers_version": importlib.metadata.version("transformers"),
        "unk_token_id": fields["tokenizer.ggml.unknown_token_id"],
        "use_cache": True,
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
    }


def _build_generation_config(config: dict[str, Any]) -> dict[str, Any]:
    same = {name: config[name] for name in ("bos_token_id", "pad_token_id", "transformers_version")}
    return {**same, "eos_token_id": [config["eos_token_id"]]}


def _build_tokenizer(source: GGUFFile) -> Any:
    """Build a byte-level BPE tokenizers.Tokenizer, as given by the file's `tokenizer.ggml.pre`."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers.models import BPE

    fields = source.metadata
    kind = fields["tokenizer.ggml.pre"]
    if fields["tokenizer.ggml.model"] != "gpt2" or kind not in _SPLITS_DIGITS:
        raise ValueError(
            f"The tokenizer kind {kind} is not supported; the supported kinds are {', '.join(_SPLITS_DIGITS)}."
        )
    vocabulary = {token: id_ for id_, token in enumerate(fields["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    digits = [pre_tokenizers.Digits(individual_digits=True)] if _SPLITS_DIGITS[kind] else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A:0 $B:1", special_tokens=[])
    tokenizer.decoder = decoders.ByteLevel()
    control = [AddedToken(token, special=True, normalized=False) for token in _list_control_tokens(source)]
    tokenizer.add_special_tokens(control)
    return tokenizer


def _list_control_tokens(source: GGUFFile) -> list[str]:
    from gguf import TokenType

    tokens, types = source.metadata["tokenizer.ggml.tokens"], source.metadata["tokenizer.ggml.token_type"]
    return [token for token, type_ in zip(tokens, types, strict=True) if type_ == TokenType.CONTROL]


def _read_special_tokens(source: GGUFFile) -> dict[str, str]:
    """Return the text of each special token, by its name in tokenizer_config.json."""
    fields = source.metadata
    tokens = fields["tokenizer.ggml.tokens"]
    return {name: tokens[fields[f"tokenizer.ggml.{key}_token_id"]] for name, key in _SPECIAL_TOKENS.items()}


def _build_tokenizer_config(source: GGUFFile, special: dict[str, str]) -> dict[str, Any]:
    return {
        "backend": "tokenizers",
        "clean_up_tokenization_spaces": False,
        "extra_special_tokens": [token for token in _list_control_tokens(source) if token not in special.values()],
        "model_max_length": source.metadata["llama.context_length"],
        # The class that uses tokenizer.json unchanged, by the name that transformers 4 also knows.
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
    }


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _work(arguments: argparse.Namespace, report: Report) -> dict[str, Any]:
    return {"path": str(convert(arguments.gguf, arguments.folder, report))}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Turn a GGUF file into a Hugging Face checkpoint.")
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="the checkpoint to write")
    run_as_program(_work, parser)
