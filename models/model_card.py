"""Read a model card: the README.md and the licence file in a model's folder."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from markdown_it import MarkdownIt
from markdown_it.token import Token

_SUMMARY = 500  # characters
_SENTENCE = 40  # characters; a line of links or badges has fewer of its own
_FRONT_MATTER = re.compile(r"\s*---[ \t]*\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Card:
    """A model card in plain text; fields are empty where the card says nothing.

    `license` is its short name, such as mit, `license_file` the name of its text in the folder; `summary` has at most 500
    characters.
    """

    title: str = ""
    summary: str = ""
    license: str = ""
    license_file: str = ""
    tags: tuple[str, ...] = ()


def read_model_card(folder: Path) -> Card:
    """The card of the model in `folder`; an empty one if there is none."""
    licenses = sorted(file.name for file in folder.glob("LICENSE*") if file.is_file())
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8-sig", errors="replace") if readme.is_file() else ""
    front = _FRONT_MATTER.match(text)
    facts = _facts(front[1]) if front else {}
    tokens = MarkdownIt("commonmark").enable("table").parse(text[front.end() :] if front else text)
    # A licence that has no short name of the hub's is called "other", and named beside it.
    names = facts.get("license_name") if facts.get("license") == "other" else facts.get("license")
    return Card(
        title=next((_plain(inline) for kind, inline in _blocks(tokens) if kind == "h1"), ""),
        summary=_summary([inline for kind, inline in _blocks(tokens) if kind == "p"]),
        license=", ".join(_words(names)),
        license_file=licenses[0] if licenses else "",
        tags=tuple(_words(facts.get("tags"))),
    )


def _facts(front: str) -> dict[str, Any]:
    try:
        facts = yaml.safe_load(front)
    except (yaml.YAMLError, ValueError):  # ValueError: a date that is none
        return {}
    return facts if isinstance(facts, dict) else {}


def _words(value: object) -> list[str]:
    """One word or several, as people write either."""
    values = value if isinstance(value, list) else [value]
    return [word.strip() for word in values if isinstance(word, str) and word.strip()]


def _blocks(tokens: Sequence[Token]) -> Iterator[tuple[str, Token]]:
    """The headings and paragraphs that stand in no list, table or quotation: HTML's name for each, and its text."""
    for opening, inline in pairwise(tokens):
        if inline.type == "inline" and opening.level == 0:
            yield opening.tag, inline


def _summary(paragraphs: Sequence[Token]) -> str:
    """The first paragraph that says something outside of its links, or else the first that has any text."""
    texts = [_plain(paragraph) for paragraph in paragraphs]
    own = [_plain(paragraph, with_links=False) for paragraph in paragraphs]
    real = [text for text, unlinked in zip(texts, own, strict=True) if len(unlinked) >= _SENTENCE]
    first = next(iter([*real, *filter(None, texts)]), "")
    return textwrap.shorten(first, _SUMMARY, placeholder=" …").strip()


def _plain(inline: Token, with_links: bool = True) -> str:
    """Text without its marks, pictures and HTML."""
    text, in_link = "", False
    for child in inline.children or []:
        if child.type in ("link_open", "link_close"):
            in_link = child.type == "link_open"
        elif child.type in ("softbreak", "hardbreak"):
            text += " "
        elif child.type in ("text", "code_inline") and (with_links or not in_link):
            text += child.content
    return " ".join(text.split())
