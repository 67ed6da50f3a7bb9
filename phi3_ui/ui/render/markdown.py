"""Escapes raw HTML in Markdown, so that it is shown as text.

Gradio's renderer would drop the tags it does not allow, and with them what a user or a model wrote. `<` and `&` are
escaped wherever Markdown would read them as HTML, and kept where it would not: in code and in display maths.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from markdown_it import MarkdownIt

# A CommonMark parser finds the code: fences nest in lists and quotes, and an answer under way has not closed them yet.
_PARSER = MarkdownIt("commonmark", {"html": False}).enable("table")
_CODE = ("fence", "code_block")
_MARK = re.compile(r"\\[\\`$<&]|`+|\$\$")


@lru_cache(maxsize=512)  # a conversation is drawn several times a second; only its last answer changes
def escape_html(text: str) -> str:
    """Escape `<` and `&` of Markdown text outside code and display maths."""
    if "<" not in text and "&" not in text:
        return text
    lines = text.split("\n")
    shown, end = [], 0
    for first, last, code in _blocks(text):
        shown += [_escape(line) for line in lines[end:first]]
        block = "\n".join(lines[first:last])
        shown.append(block if code else _escape_inline(block))
        end = last
    return "\n".join([*shown, *(_escape(line) for line in lines[end:])])


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """The leaf blocks in order: first line, line after the last, whether it is code."""
    end = 0
    for token in _PARSER.parse(text):
        if token.map and (token.type in _CODE or token.type == "inline") and token.map[0] >= end:
            first, end = token.map
            yield first, end, token.type in _CODE


def _escape_inline(block: str) -> str:
    """Escape a paragraph, heading or cell except its code spans and display maths."""
    shown, end, position = [], 0, 0
    while mark := _MARK.search(block, position):
        position = mark.end()
        if mark[0].startswith("\\"):  # a backslash escape is text already
            shown += [_escape(block[end : mark.start()]), mark[0]]
            end = position
            continue
        closing = re.compile(rf"(?<!`){mark[0]}(?!`)" if mark[0][0] == "`" else r"\$\$").search(block, position)
        if closing:
            shown += [_escape(block[end : mark.start()]), block[mark.start() : closing.end()]]
            end = position = closing.end()
    return "".join([*shown, _escape(block[end:])])


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
