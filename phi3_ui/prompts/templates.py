"""The prompt templates a person may pick from for a model that declares none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phi3_ui.prompts.tokenization import PromptFormat


class NoTemplateError(Exception):
    """The model declares no prompt template, and nobody has picked one; the message names those there are."""


@dataclass(frozen=True)
class Template:
    """How a conversation becomes one prompt; `stops` are the texts at which an answer has ended."""

    title: str
    format: PromptFormat
    stops: tuple[str, ...]


def _turns(turn: str, answer: str, before: str = "") -> str:
    """A Jinja template that writes `turn` for each message and `answer` where the model's answer begins."""
    return f"{before}{{% for message in messages %}}{turn}{{% endfor %}}{{% if add_generation_prompt %}}{answer}{{% endif %}}"


_PHI_3_TURNS = ("<|system|>", "<|user|>", "<|assistant|>")
_PHI_3_ENDS = ("<|end|>", "<|endoftext|>")
_CHATML = ("<|im_end|>", "<|im_start|>", "<|endoftext|>")
_LLAMA_3_ENDS = ("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", "<|start_header_id|>")
_PLAIN = ("\nUser:", "\nAssistant:")

# No template writes the beginning-of-text token: the tokenizer of a model that wants it puts it there itself.
TEMPLATES: Mapping[str, Template] = {
    "phi-3": Template(
        "Phi-3",
        PromptFormat(
            _turns(
                r"{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}", r"{{ '<|assistant|>\n' }}"
            ),
            (*_PHI_3_TURNS, *_PHI_3_ENDS, "<s>", "</s>"),
        ),
        (*_PHI_3_ENDS, *_PHI_3_TURNS),
    ),
    "chatml": Template(
        "ChatML",
        PromptFormat(
            _turns(
                r"{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}",
                r"{{ '<|im_start|>assistant\n' }}",
            ),
            _CHATML,
        ),
        _CHATML,
    ),
    "llama-3": Template(
        "Llama 3",
        PromptFormat(
            _turns(
                r"{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}",
                r"{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}",
            ),
            (*_LLAMA_3_ENDS, "<|end_header_id|>", "<|begin_of_text|>"),
        ),
        _LLAMA_3_ENDS,
    ),
    "plain": Template(
        "Plain text",
        PromptFormat(
            _turns(
                r"{{ message['content'] + '\n\n' if message['role'] == 'system' else "
                r"message['role'] | capitalize + ': ' + message['content'] + '\n' }}",
                "Assistant:",
            ),
            # Words at the beginning of a line are all that marks a turn here, so a person's own are broken.
            _PLAIN,
        ),
        _PLAIN,
    ),
}


def declares_template(metadata: Mapping[str, Any]) -> bool:
    return isinstance(metadata.get("chat_template"), str)


def get_template(metadata: Mapping[str, Any], picked: str | None) -> Template:
    """The template that the model declares in its metadata, else the picked one. NoTemplateError if there is neither."""
    if declares_template(metadata):
        bos, eos = metadata.get("bos_token") or "", metadata.get("eos_token") or ""
        ends = tuple(metadata.get("end_tokens") or filter(None, [eos]))
        special_tokens = tuple(metadata.get("special_tokens") or ends)
        return Template("", PromptFormat(metadata["chat_template"], special_tokens, bos, eos), ends)
    if picked is None or picked not in TEMPLATES:
        raise NoTemplateError(", ".join(TEMPLATES))
    return TEMPLATES[picked]
