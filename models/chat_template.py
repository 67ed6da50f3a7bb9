"""Render chat templates exactly as transformers does, each in a process with limits, because a template is untrusted code."""

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
    """Whether a tokenizer setting, such as `bos_token` or `image_token`, is a token that templates may refer to by name."""
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
        tokens: The text of each token by the tokenizer's name for it, see `is_token_name`.
        add_generation_prompt: End the prompt with the beginning of the assistant's turn.
        now: The local time that the template gets as the current time; None: the actual current time.

    Raises:
        TemplateError: The template cannot be compiled, or rendering fails. RejectionError if it raises it deliberately,
            TemplateLimitError if it needs too much time or memory.
    """
    variables = {
        "messages": messages,
        # Templates test these with `is not none`, which is true for an undefined variable.
        "tools": None,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
        **tokens,
    }
    render = render_template if _is_confined.is_set() else render_in_child
    return render(template, variables, now or datetime.now())


def declare_confined() -> None:
    """Declare that this process has its own limits and may not start others: templates are then rendered within it, directly."""
    _is_confined.set()


def find_answer_markers(template: str, tokens: Mapping[str, str], candidates: Sequence[str]) -> list[str]:
    """Return those of `candidates` that the template contains but does not write when it renders a plain conversation.

    It looks for them in answers: for instance, a template that removes reasoning from the history splits answers at `</think>`.
    """
    question, answer = {"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}
    named = [text for text in candidates if text in template]
    try:
        written = render_chat_template(template, [question, answer, question], tokens) if named else ""
    except TemplateError:
        return []  # the template does not support such a conversation
    return [text for text in named if text not in written]
