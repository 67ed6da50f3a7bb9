"""HTML from the templates in templates/. Every value is escaped automatically."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from markupsafe import Markup

from phi3_ui.i18n.translate import tr
from phi3_ui.ui.asset_urls import ICONS_URL, STATIC_URL


class _JoinLines(Extension):
    """Joins a template's lines without their indentation: whitespace between tags would be visible in a chat message."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        return "".join(line.strip() for line in source.splitlines())


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    extensions=[_JoinLines],
    autoescape=True,
    undefined=StrictUndefined,
)
_ENVIRONMENT.globals |= {"static_url": STATIC_URL, "icons_url": ICONS_URL}


def render(template: str, language: str, **values: Any) -> Markup:
    """Fill in a template. It can call `t(key, …)` for a text in `language`."""
    t: Callable[..., str] = partial(tr, language)
    html = _ENVIRONMENT.get_template(template).render(t=t, **values)
    return Markup(html)  # noqa: S704 - the template has escaped its values
