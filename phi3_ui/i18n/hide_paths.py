"""Keeps the server's folders out of what visitors read."""

import re

_NAME = r"[^\s/\\:'\"<>|,;()…]"
# From the root of a Unix or Windows disk. Addresses of pages have a host before their path.
_ROOT = r"(?:/|[A-Za-z]:[\\/])"
# Each character is matched in one way alone, so that the time is linear: an imported chat may hold an error of any length.
_QUOTED = re.compile(rf"(?P<before>['\"“]){_ROOT}(?:[^/\\'\"“”\n]*[/\\])*(?P<name>[^/\\'\"“”\n]*)(?=['\"”])")
_URI = re.compile(rf"(?P<before>\b(?:sqlite|file):/{{2,3}}){_ROOT}(?:{_NAME}+[/\\])*(?P<name>{_NAME}+)")
_PLAIN = re.compile(rf"(?P<before>)(?<![\w.:/\\…]){_ROOT}(?:{_NAME}+[/\\])*(?P<name>{_NAME}+)")


def hide_paths(text: str) -> str:
    """`text` with the name alone of each file and folder that is named by its whole path."""
    for pattern in (_QUOTED, _URI, _PLAIN):
        text = pattern.sub(r"\g<before>…/\g<name>", text)
    return text
