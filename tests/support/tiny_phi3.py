"""A checkpoint with Phi-3's architecture, special tokens, chat template and tokenizer type that takes a second to create."""

import json
import shutil
import string
from itertools import pairwise
from pathlib import Path
from typing import Any

from phi3_ui.paths import ROOT

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
# In the order of Phi-3's ids, which come after those of the words.
SPECIAL = (
    "<|endoftext|>",
    "<|assistant|>",
    *(f"<|placeholder{number}|>" for number in range(1, 5)),
    "<|system|>",
    "<|end|>",
    "<|placeholder5|>",
    "<|placeholder6|>",
    "<|user|>",
)
END_TOKENS = ("<|end|>", "<|endoftext|>")
CONTEXT_LENGTH = 4096
WORDS = ("The", "sea", "is", "calm")
"""The answer of a model with `ends_with`, before that token; AFTER is what it would continue with."""
AFTER = "never"

TEXT = """\
The sea is calm tonight, and the tide is full. A ship that is never late comes in with the morning light.
What is the capital of France? The capital of France is Paris, which lies on the river Seine.
You are a helpful assistant. Answer in one sentence; if you do not know, say that you do not know.
Write a short story about a lighthouse, a storm, and the woman who kept the lamp burning all night.
def reverse(items): return [items[i] for i in range(len(items) - 1, -1, -1)]  # 0 1 2 3 4 5 6 7 8 9
Once upon a time there was a small model with random weights. Tell me, please: what would it say to you?
"""


def make_checkpoint(folder: Path, ends_with: str | None = None, context_length: int = CONTEXT_LENGTH) -> Path:
    """Write the checkpoint to `folder`, in the hub's layout, and return `folder`.

    Its weights are random but seeded, and it never ends an answer by itself. With `ends_with` (a special token)
    it answers any question with WORDS, then that token, then AFTER for ever. As on the hub, generation_config.json
    lists only <|endoftext|> as the end token, although answers end with <|end|>. A context longer than CONTEXT_LENGTH
    works as in Phi-3: LongRoPE factors switch beyond that length, and the sliding window is larger than the context.
    """
    import torch
    from transformers import GenerationConfig, Phi3Config, Phi3ForCausalLM

    tokenizer = _tokenizer(context_length)
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    config = Phi3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        initializer_range=0.2,
        max_position_embeddings=context_length,
        original_max_position_embeddings=CONTEXT_LENGTH,
        **_positions(context_length),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end,
        pad_token_id=end,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Phi3ForCausalLM(config)
    with torch.no_grad():
        special = tokenizer.convert_tokens_to_ids([*SPECIAL, "<unk>", "<s>", "</s>"])
        model.lm_head.weight[special] = 0
        if ends_with:
            _set_answer(model, [tokenizer.convert_tokens_to_ids(token) for token in _sentence(ends_with)])
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=[end], pad_token_id=end
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # As on the hub, name a class that would build a different tokenizer (transformers has an exception for Phi-3),
    _amend(folder / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    # and custom model code from before transformers supported Phi-3.
    _amend(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"})
    shutil.copy(ROOT / "LICENSE", folder)
    (folder / "README.md").write_text(_CARD, encoding="utf-8")
    return folder


def _positions(context_length: int) -> dict[str, Any]:
    if context_length == CONTEXT_LENGTH:
        return {"sliding_window": 2047}
    short, long = ([1 + step * place for place in range(8)] for step in (0.05, 2.0))
    factors = {
        "rope_type": "longrope",
        "type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": short,
        "long_factor": long,
    }
    return {"sliding_window": 2 * context_length, "rope_parameters": factors}


_CARD = """\
---
license: mit
language: [en]
pipeline_tag: text-generation
tags: [nlp, code]
---
# Tiny Phi-3

A model of Phi-3's architecture with made-up weights, for tests.
"""


def _amend(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | fields, indent=2), encoding="utf-8")


def _sentence(ends_with: str) -> list[str]:
    return ["<|assistant|>", *(f"▁{word}" for word in WORDS), ends_with, f"▁{AFTER}", f"▁{AFTER}"]


def _set_answer(model: Any, tokens: list[int]) -> None:
    """Make each token predict the next: the layers pass the embedding through, and lm_head maps it to the successor."""
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    model.lm_head.weight.zero_()
    for token, successor in pairwise(tokens):
        model.lm_head.weight[successor] += 10 * model.model.embed_tokens.weight[token]


def _tokenizer(context_length: int) -> Any:
    """Create a tokenizer like Phi-3's: ▁ for spaces and at the start, byte fallback, no white space after control tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    base = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained = Tokenizer(BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    lines = [*TEXT.splitlines(), *(20 * [f" {word}" for word in (*WORDS, AFTER)])]
    alphabet = [character for character in string.printable if character.isprintable() and character != " "]
    trainer = BpeTrainer(vocab_size=800, special_tokens=base, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(lines, trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    backend = Tokenizer(BPE(model["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in base[:2]])
    backend.add_tokens([AddedToken("</s>", rstrip=True, normalized=False)])
    backend.add_special_tokens(
        [AddedToken(token, rstrip=token != "<|endoftext|>", normalized=False) for token in SPECIAL]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=CHAT_TEMPLATE,
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
        bos_token="<s>",
        eos_token="<|endoftext|>",
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        padding_side="left",
    )
