"""The prompt templates that users can pick for a model that declares none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.chat_template import is_token_name
from phi3_ui.prompts.tokenization import PromptFormat


class NoTemplateError(Exception):
    """The model declares no prompt template and the user has picked none; the message lists the keys of TEMPLATES."""


@dataclass(frozen=True)
class PromptTemplate:
    """How a conversation becomes one prompt."""

    title: str
    """The title shown to users; empty for a template that a model declares."""

    format: PromptFormat

    stop_strings: tuple[str, ...]
    """The texts that end an answer."""


def _jinja(turn: str, answer: str) -> str:
    """Return a Jinja template that writes `turn` for each message and `answer` where the model's answer begins."""
    return f"{{% for message in messages %}}{turn}{{% endfor %}}{{% if add_generation_prompt %}}{answer}{{% endif %}}"


_PHI_3_ROLE_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>")
_PHI_3_END_TOKENS = ("<|end|>", "<|endoftext|>")
_CHATML_TOKENS = ("<|im_end|>", "<|im_start|>", "<|endoftext|>")
_LLAMA_3_END_TOKENS = ("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", "<|start_header_id|>")

# No template writes the beginning-of-sequence token: the tokenizer adds it if the model needs it.
TEMPLATES: Mapping[str, PromptTemplate] = {
    "phi-3": PromptTemplate(
        "Phi-3",
        PromptFormat(
            _jinja(
                r"{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}", r"{{ '<|assistant|>\n' }}"
            ),
            (*_PHI_3_ROLE_TOKENS, *_PHI_3_END_TOKENS, "<s>", "</s>"),
        ),
        (*_PHI_3_END_TOKENS, *_PHI_3_ROLE_TOKENS),
    ),
    "chatml": PromptTemplate(
        "ChatML",
        PromptFormat(
            _jinja(
                r"{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}",
                r"{{ '<|im_start|>assistant\n' }}",
            ),
            _CHATML_TOKENS,
        ),
        _CHATML_TOKENS,
    ),
    "llama-3": PromptTemplate(
        "Llama 3",
        PromptFormat(
            _jinja(
                r"{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}",
                r"{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}",
            ),
            (*_LLAMA_3_END_TOKENS, "<|end_header_id|>", "<|begin_of_text|>"),
        ),
        _LLAMA_3_END_TOKENS,
    ),
    "plain": PromptTemplate(
        "Plain text",
        PromptFormat(
            _jinja(
                r"{{ message['content'] + '\n\n' if message['role'] == 'system' else "
                r"message['role'] | capitalize + ': ' + message['content'] + '\n' }}",
                "Assistant:",
            ),
            turn_labels=("user", "assistant"),
        ),
        ("\nUser:", "\nAssistant:"),
    ),
}


def declares_template(metadata: Mapping[str, Any]) -> bool:
    """Return whether a model's metadata contains a chat template."""
    return isinstance(metadata.get("chat_template"), str)


def get_template(metadata: Mapping[str, Any], picked: str | None) -> PromptTemplate:
    """Return the template in the model's metadata, else the picked one. Raises NoTemplateError if there is neither."""
    if declares_template(metadata):
        tokens = {name: text for name, text in metadata.items() if is_token_name(name) and text}
        bos, eos = tokens.pop("bos_token", ""), tokens.pop("eos_token", "")
        ends = tuple(metadata.get("end_tokens") or filter(None, [eos]))
        special_tokens = tuple(metadata.get("special_tokens") or ends)
        markers = tuple(metadata.get("answer_markers") or ())
        return PromptTemplate(
            "", PromptFormat(metadata["chat_template"], special_tokens, bos, eos, tokens, markers), ends
        )
    if picked is None or picked not in TEMPLATES:
        raise NoTemplateError(", ".join(TEMPLATES))
    return TEMPLATES[picked]
