"""Renders messages as the prompt a model was trained on, with the model's own template; user text stays text."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from phi3_ui.chat.types import Message

SEPARATOR = "\u2063"
"""An invisible character that breaks text which looks like a control token; the ONNX wrapper encodes the parts separately."""

_template_date: ContextVar[datetime | None] = ContextVar("template_date", default=None)


class TemplateError(Exception):
    """The template rejects this conversation; the message says why."""


@dataclass(frozen=True)
class PromptFormat:
    """What a model declares about its prompt."""

    chat_template: str
    """The Jinja template, written for transformers' environment."""

    special_tokens: tuple[str, ...] = ()
    bos_token: str = ""
    eos_token: str = ""

    def render(self, messages: Sequence[Message]) -> str:
        """Return the prompt up to where the assistant's answer begins. Raises TemplateError."""
        safe_messages = [
            {
                "role": message.role,
                "content": neutralise(message.content.replace(SEPARATOR, 2 * SEPARATOR), self.special_tokens),
            }
            for message in messages
        ]
        try:
            return _compile(self.chat_template).render(
                messages=safe_messages, add_generation_prompt=True, bos_token=self.bos_token, eos_token=self.eos_token
            )
        except Exception as error:  # a template is a program: it may fail in any way
            raise TemplateError(str(error) or type(error).__name__) from error


def neutralise(text: str, special_tokens: Sequence[str]) -> str:
    """Return `text` with SEPARATOR after the first character of each special token in it, so that none is left.

    A token of one character cannot be broken and stays.
    """
    starts = "|".join(re.escape(token) for token in special_tokens if len(token) > 1)
    if not starts:
        return text
    return re.sub(f"(?=(?:{starts}))(.)", rf"\1{SEPARATOR}", text, flags=re.DOTALL)


@contextlib.contextmanager
def frozen_template_date(timestamp: float) -> Iterator[None]:
    """Within the block, templates that write the date write that of `timestamp` (seconds since 1970, UTC) in local time."""
    token = _template_date.set(datetime.fromtimestamp(timestamp))
    try:
        yield
    finally:
        _template_date.reset(token)


@lru_cache(maxsize=32)
def _compile(template: str) -> jinja2.Template:
    # The environment that transformers gives chat templates, which are written for it.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda pattern: (_template_date.get() or datetime.now()).strftime(pattern)
    return environment.from_string(template)


def _raise_exception(message: str) -> Any:
    raise jinja2.TemplateError(message)
