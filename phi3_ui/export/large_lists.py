"""Takes a large JSON list apart: parsed at once, it takes up to thirty times its size of memory."""

import codecs
import json
import re
from collections.abc import Iterator

_FIRST_BYTES = 1_000_000  # looked at for one element; doubled while the element has no end
_SPACE = re.compile(r"[ \t\n\r]*")


def split_list(content: bytes, limit: int) -> Iterator[bytes]:
    """Yield each element of a JSON list in UTF-8, one after the other.

    Raises:
        ValueError: It is no list, an element is not JSON, is nested too deeply or longer than `limit` characters.
    """
    scan = json.JSONDecoder().raw_decode
    feed = codecs.getincrementaldecoder("utf-8-sig")().decode
    text, at, taken, step, expected = "", 0, 0, _FIRST_BYTES, "["
    while True:
        found = _find_element(text, at, expected)
        if found is None:
            return
        if found >= 0:
            try:
                end = scan(text, found)[1]
                after = _SPACE.match(text, end).end()  # type: ignore[union-attr]  # it always matches
            except json.JSONDecodeError:
                after = len(text)
            except RecursionError as error:
                raise ValueError("it is nested too deeply") from error
            if text[after : after + 1] in (",", "]"):  # else a number may go on
                yield text[found:end].encode(errors="replace")
                at, step, expected = end, _FIRST_BYTES, ","
                continue
        if taken >= len(content):
            raise ValueError("it is not JSON")
        if len(text) - at > limit:
            raise ValueError("it is too large")
        try:
            text = text[at:] + feed(content[taken : taken + step], taken + step >= len(content))
        except UnicodeDecodeError as error:
            raise ValueError("it is not JSON") from error
        at, taken, step = 0, taken + step, step * 2


def _find_element(text: str, at: int, expected: str) -> int | None:
    """Where the next element begins, after `expected`; -1 if the text ends before, None if the list does."""
    start = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it always matches
    if start == len(text):
        return -1
    if text[start] == "]" and expected == ",":
        return None
    if text[start] != expected:
        raise ValueError("it is no list of chats")
    start = _SPACE.match(text, start + 1).end()  # type: ignore[union-attr]  # as above
    if start == len(text):
        return -1
    return None if text[start] == "]" and expected == "[" else start
