"""GGUF → a Hugging Face checkpoint folder: fp32 safetensors, tokenizer, chat template, generation config."""

import argparse
from pathlib import Path
from typing import Any

from models.presets import load_preset
from models.stage import Report, atomic_folder, require_space, run_as_program

# transformers 5.17 rebuilds a GGUF tokenizer without the digit splitting that the file names, and with the
# wrong end-of-sequence token: the ids would differ from those the model was trained on. So the tokenizer is
# put together here, by the file's own `tokenizer.ggml.pre`.
_SPLITS_DIGITS = {"smollm": True, "gpt-2": False}


def convert(gguf: Path, folder: Path, source: str, report: Report) -> Path:
    """Write the checkpoint of `gguf` to `folder`, whole or not at all; progress in steps.

    `source` is the model's public name, kept in config.json. ValueError if the file's tokenizer is of a kind not known here.
    """
    if (folder / "config.json").exists():
        return folder
    require_space(folder.parent, 8 * gguf.stat().st_size)
    report(0, 3)
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(gguf)
    report(1, 3)
    quantized = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    report(2, 3)
    # A model loaded from GGUF refuses to be saved and has no architecture: its weights move into a fresh one.
    fields = {name: value for name, value in quantized.config.to_dict().items() if name != "quantization_config"}
    config = LlamaConfig.from_dict({**fields, "architectures": ["LlamaForCausalLM"], "_name_or_path": source})
    model = LlamaForCausalLM(config)
    model.load_state_dict(quantized.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=[tokenizer.eos_token_id], pad_token_id=tokenizer.pad_token_id
    )
    with atomic_folder(folder) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        _name_the_general_class(part / "tokenizer_config.json")
    report(3, 3)
    return folder


def _tokenizer(gguf: Path) -> Any:
    from gguf import GGUFReader, TokenType
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    reader = GGUFReader(gguf)

    def read(key: str) -> Any:
        return reader.fields[key].contents()

    kind = read("tokenizer.ggml.pre")
    if read("tokenizer.ggml.model") != "gpt2" or kind not in _SPLITS_DIGITS:
        raise ValueError(f"The tokenizer of {gguf.name} is of a kind ({kind}) that is not known here.")
    tokens: list[str] = read("tokenizer.ggml.tokens")
    types: list[int] = read("tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in read("tokenizer.ggml.merges")]
    backend = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    bytes_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if _SPLITS_DIGITS[kind] else []
    backend.pre_tokenizer = pre_tokenizers.Sequence([*digits, bytes_level])
    backend.decoder = decoders.ByteLevel()
    control = [token for token, type_ in zip(tokens, types, strict=True) if type_ == TokenType.CONTROL]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    named = {
        name: tokens[read(f"tokenizer.ggml.{field}_token_id")]
        for name, field in [
            ("bos_token", "bos"),
            ("eos_token", "eos"),
            ("unk_token", "unknown"),
            ("pad_token", "padding"),
        ]
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=read("tokenizer.chat_template"),
        model_max_length=int(read("llama.context_length")),
        clean_up_tokenization_spaces=False,
        extra_special_tokens=[token for token in control if token not in named.values()],
        **named,
    )


def _name_the_general_class(tokenizer_config: Path) -> None:
    # The class that takes tokenizer.json as it is, under the name that older readers know too.
    text = tokenizer_config.read_text(encoding="utf-8")
    tokenizer_config.write_text(text.replace('"TokenizersBackend"', '"PreTrainedTokenizerFast"'), encoding="utf-8")


def _work(arguments: argparse.Namespace, report: Report) -> dict[str, Any]:
    source = load_preset(arguments.preset).origin.source
    return {"path": str(convert(arguments.gguf, arguments.folder, source, report))}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Turn a GGUF file into a Hugging Face checkpoint.")
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="the checkpoint to write")
    run_as_program(_work, parser)
