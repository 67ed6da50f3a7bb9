"""Tiny Llama models with tokenizers like those of Llama 3, Mistral and Gemma: tokenizer and template both add BOS."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.tiny_phi3 import TEXT


@dataclass(frozen=True)
class Family:
    """A kind of tokenizer, with its chat template."""

    bos: str
    end: str
    """The token that ends a turn."""
    control: tuple[str, ...]
    """The other control tokens of the template."""
    template: str


FAMILIES = {
    "llama-3": Family(
        "<|begin_of_text|>",
        "<|eot_id|>",
        ("<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>"),
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim"
        " + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    ),
    "mistral": Family(
        "<s>",
        "</s>",
        ("[INST]", "[/INST]"),
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}"
        "{% elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
    ),
    "gemma": Family(
        "<bos>",
        "<end_of_turn>",
        ("<start_of_turn>", "<eos>"),
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim"
        " + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    ),
}


def make_bos_checkpoint(folder: Path, name: str) -> Path:
    """Write a checkpoint of one of FAMILIES, with random weights, to `folder` and return `folder`."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = _create_tokenizer(name)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] = 0  # answers never end by themselves
    model.generation_config = GenerationConfig(bos_token_id=config.bos_token_id, eos_token_id=[config.eos_token_id])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _create_tokenizer(name: str) -> Any:
    from tokenizers import AddedToken, Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[name]
    backend: Tokenizer = _train_byte_level() if name == "llama-3" else _train_sentencepiece()
    control = (family.bos, family.end, *family.control)
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    if name == "gemma":
        backend.add_tokens([AddedToken(run, normalized=False) for run in ("\n\n", "\n\n\n")])  # as in Gemma's
    bos_id = backend.token_to_id(family.bos)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{family.bos} $A", pair=f"{family.bos} $A {family.bos}:1 $B:1", special_tokens=[(family.bos, bos_id)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=family.template,
        bos_token=family.bos,
        eos_token=family.end,
        clean_up_tokenization_spaces=False,
    )


def _train_byte_level() -> Any:
    """Train a byte-level BPE tokenizer, as Llama 3 uses."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    return tokenizer


def _train_sentencepiece() -> Any:
    """Train a SentencePiece-style tokenizer, as Mistral and Gemma use: ▁ for spaces, and byte fallback."""
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    base_tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.train_from_iterator(
        TEXT.splitlines(), BpeTrainer(vocab_size=500, special_tokens=base_tokens, show_progress=False)
    )
    return tokenizer
