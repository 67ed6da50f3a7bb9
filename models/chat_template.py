"""Renders chat templates exactly as transformers does, each in a process with limits: a template is a stranger's program."""

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from models.template_environment import RejectionError, TemplateError, TemplateLimitError, render_template
from models.template_process import render_in_child

__all__ = [
    "RejectionError",
    "TemplateError",
    "TemplateLimitError",
    "declare_confined",
    "find_answer_markers",
    "is_token_name",
    "render_chat_template",
]

_is_confined = threading.Event()


def is_token_name(name: str) -> bool:
    """Whether a setting of a tokenizer, such as `bos_token` or `image_token`, is a token that templates may write by name."""
    return name.endswith("_token")


def render_chat_template(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    tokens: Mapping[str, str],
    *,
    add_generation_prompt: bool = True,
    now: datetime | None = None,
) -> str:
    """Return the prompt that `tokenizer.apply_chat_template(messages, tokenize=False)` returns.

    Args:
        template: The Jinja source.
        messages: Dicts with `role` and `content`.
        tokens: The text of each token that the tokenizer names, see `is_token_name`.
        add_generation_prompt: End the prompt where the assistant's answer begins.
        now: The time that the template gets as the current one, in local time; None: the current one.

    Raises:
        TemplateError: The template cannot be compiled, or fails. RejectionError if it does so deliberately,
            TemplateLimitError if it needs too much time or memory.
    """
    variables = {
        "messages": messages,
        # Templates test these with `is not none`, which an undefined variable would pass.
        "tools": None,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
        **tokens,
    }
    render = render_template if _is_confined.is_set() else render_in_child
    return render(template, variables, now or datetime.now())


def declare_confined() -> None:
    """Say that this process has limits of its own, and may not start others: templates are then rendered in it, without more."""
    _is_confined.set()


def find_answer_markers(template: str, tokens: Mapping[str, str], candidates: Sequence[str]) -> list[str]:
    """Return those of `candidates` that the template names but does not write into a plain conversation.

    It looks for them in answers: a template that leaves reasoning out of the history splits an answer at `</think>`.
    """
    question, answer = {"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}
    named = [text for text in candidates if text in template]
    try:
        written = render_chat_template(template, [question, answer, question], tokens) if named else ""
    except TemplateError:
        return []  # a template for other conversations
    return [text for text in named if text not in written]
