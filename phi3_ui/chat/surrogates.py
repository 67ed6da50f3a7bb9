"""Replaces lone surrogates, halves of a character that Python strings and JSON can contain, but UTF-8 cannot."""

import re

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_LONE = re.compile("[\ud800-\udfff]")


def replace_surrogates(text: str) -> str:
    """Return the text with U+FFFD for each lone surrogate; a surrogate pair becomes its character."""
    try:
        text.encode()
    except (
        UnicodeEncodeError
    ):  # regular expressions: a codec's error handler is ten times slower on a text of surrogates only
        return _LONE.sub("\ufffd", _PAIR.sub(_join, text))
    return text


def _join(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")
