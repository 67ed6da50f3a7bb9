"""Lone surrogates: halves of a character, which Python's strings and JSON can hold, but UTF-8 cannot."""

import re

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_LONE = re.compile("[\ud800-\udfff]")


def replace_surrogates(text: str) -> str:
    """The text with U+FFFD for each lone surrogate; two halves that stand together become their character."""
    try:
        text.encode()
    except UnicodeEncodeError:  # by hand: a codec's error handler takes ten times as long for a text of nothing else
        return _LONE.sub("\ufffd", _PAIR.sub(_join, text))
    return text


def _join(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")
