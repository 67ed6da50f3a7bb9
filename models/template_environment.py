"""The Jinja environment of transformers, which chat templates are written for, without the seconds that importing it takes."""

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment


class TemplateError(Exception):
    """The template cannot render this conversation; the message is the reason, in one line."""


class RejectionError(TemplateError):
    """The template rejects this conversation deliberately, through `raise_exception`."""


class TemplateLimitError(TemplateError):
    """Rendering the template exceeds the limits of time or memory."""


def render_template(template: str, variables: Mapping[str, Any], now: datetime) -> str:
    """Render `template` with `variables`; its function `strftime_now` formats the time `now`. There are no limits.

    Raises:
        TemplateError: The template cannot be compiled, or rendering fails. RejectionError if the template raises it deliberately.
        MemoryError: There is not enough memory.
    """

    def strftime_now(format: str) -> str:  # noqa: A002 (a template may pass it by name)
        return now.strftime(format)

    try:
        return _compile(template).render(strftime_now=strftime_now, **variables)
    except MemoryError:
        raise
    except _RaisedByTemplateError as error:
        raise RejectionError(_describe(error)) from error
    except Exception as error:  # a template is a program: it may fail in any way
        raise TemplateError(_describe(error)) from error


class _RaisedByTemplateError(jinja2.TemplateError):
    pass


class _GenerationTag(Extension):
    """The tag `{% generation %}` … `{% endgeneration %}`: marks the assistant's tokens for training, and renders its body."""

    tags = {"generation"}  # noqa: RUF012 (the base class declares a mutable class variable)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A call block, as in transformers: variables set in the body are not visible after it.
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
    # Jinja's own filter escapes for HTML and has no option for separators.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise _RaisedByTemplateError(message)


def _describe(error: Exception) -> str:
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"line {error.lineno}: {_first_line(error.message or '')}"
    return _first_line(str(error)) or type(error).__name__


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "").rstrip(".")
