"""Renders chat templates exactly as transformers does, without importing it: that takes seconds, and loads torch."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment


def is_token_name(name: str) -> bool:
    """Whether a setting of a tokenizer, such as `bos_token` or `image_token`, is a token that templates may write by name."""
    return name.endswith("_token")


class TemplateError(Exception):
    """The template cannot render this conversation; the message says why, in one line."""


class RejectionError(TemplateError):
    """The template rejects this conversation deliberately, through `raise_exception`."""


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
        TemplateError: The template cannot be compiled, or fails. RejectionError if it does so deliberately.
    """

    def strftime_now(format: str) -> str:  # noqa: A002 (a template may pass it by name)
        return (now or datetime.now()).strftime(format)

    try:
        return _compile(template).render(
            messages=messages,
            # Templates test these with `is not none`, which an undefined variable would pass.
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            strftime_now=strftime_now,
            **tokens,
        )
    except _RaisedByTemplateError as error:
        raise RejectionError(_describe(error)) from error
    except Exception as error:  # a template is a program: it may fail in any way
        raise TemplateError(_describe(error)) from error


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


class _RaisedByTemplateError(jinja2.TemplateError):
    pass


class _GenerationTag(Extension):
    """`{% generation %}` … `{% endgeneration %}`, which marks the assistant's tokens for training and renders its body."""

    tags = {"generation"}  # noqa: RUF012 (the base class declares a mutable class variable)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A call block, as in transformers: what the body sets is not visible after it.
        return nodes.CallBlock(self.call_method("_render_body"), [], [], body).set_lineno(line)

    def _render_body(self, caller: Macro) -> str:
        return caller()


@lru_cache(maxsize=32)
def _compile(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    return environment.from_string(template)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML and takes no separators.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise _RaisedByTemplateError(message)


def _describe(error: Exception) -> str:
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"line {error.lineno}: {_first_line(error.message or '')}"
    return _first_line(str(error)) or type(error).__name__


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "").rstrip(".")
