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
_SENTENCE = 40  # characters outside of links; a line of links or badges has fewer
_FRONT_MATTER = re.compile(r"\s*---[ \t]*\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Card:
    """A model card in plain text; fields that the card does not give are empty.

    `license` is the licence's short name, such as mit, and `license_file` the name of the file with its text; `summary` has at
    most 500 characters.
    """

    title: str = ""
    summary: str = ""
    license: str = ""
    license_file: str = ""
    tags: tuple[str, ...] = ()


def read_model_card(folder: Path) -> Card:
    """Return the card of the model in `folder`; an empty one if it has none."""
    licenses = sorted(file.name for file in folder.glob("LICENSE*") if file.is_file())
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8-sig", errors="replace") if readme.is_file() else ""
    front = _FRONT_MATTER.match(text)
    facts = _parse_front_matter(front[1]) if front else {}
    tokens = MarkdownIt("commonmark").enable("table").parse(text[front.end() :] if front else text)
    # For a licence without a short name on the hub, `license` is "other" and `license_name` gives the name.
    names = facts.get("license_name") if facts.get("license") == "other" else facts.get("license")
    return Card(
        title=next((_extract_text(inline) for kind, inline in _iterate_blocks(tokens) if kind == "h1"), ""),
        summary=_summarize([inline for kind, inline in _iterate_blocks(tokens) if kind == "p"]),
        license=", ".join(_list_words(names)),
        license_file=licenses[0] if licenses else "",
        tags=tuple(_list_words(facts.get("tags"))),
    )


def _parse_front_matter(front: str) -> dict[str, Any]:
    try:
        facts = yaml.safe_load(front)
    except (yaml.YAMLError, ValueError):  # ValueError: an invalid date
        return {}
    return facts if isinstance(facts, dict) else {}


def _list_words(value: object) -> list[str]:
    """Return the words of a field, which may contain one word or a list."""
    values = value if isinstance(value, list) else [value]
    return [word.strip() for word in values if isinstance(word, str) and word.strip()]


def _iterate_blocks(tokens: Sequence[Token]) -> Iterator[tuple[str, Token]]:
    """Yield the HTML tag and content of each heading and paragraph outside of lists, tables and quotations."""
    for opening, inline in pairwise(tokens):
        if inline.type == "inline" and opening.level == 0:
            yield opening.tag, inline


def _summarize(paragraphs: Sequence[Token]) -> str:
    """Return the first paragraph with a sentence outside of its links, or else the first one with any text."""
    texts = [_extract_text(paragraph) for paragraph in paragraphs]
    unlinked_texts = [_extract_text(paragraph, with_links=False) for paragraph in paragraphs]
    sentences = [text for text, unlinked in zip(texts, unlinked_texts, strict=True) if len(unlinked) >= _SENTENCE]
    first = next(iter([*sentences, *filter(None, texts)]), "")
    return textwrap.shorten(first, _SUMMARY, placeholder=" …").strip()


def _extract_text(inline: Token, with_links: bool = True) -> str:
    """Return the text without markup, images and HTML."""
    text, in_link = "", False
    for child in inline.children or []:
        if child.type in ("link_open", "link_close"):
            in_link = child.type == "link_open"
        elif child.type in ("softbreak", "hardbreak"):
            text += " "
        elif child.type in ("text", "code_inline") and (with_links or not in_link):
            text += child.content
    return " ".join(text.split())
