"""Removes the server's folders from texts that visitors read."""

import re

_NAME = r"[^\s/\\:'\"<>|,;()…]"
# The root of a Unix or Windows disk. URLs have a host before their path.
_ROOT = r"(?:/|[A-Za-z]:[\\/])"
# Each character matches in only one way, so that matching takes linear time: an imported chat may contain an error of any length.
_QUOTED = re.compile(rf"(?P<before>['\"“]){_ROOT}(?:[^/\\'\"“”\n]*[/\\])*(?P<name>[^/\\'\"“”\n]*)(?=['\"”])")
_URI = re.compile(rf"(?P<before>\b(?:sqlite|file):/{{2,3}}){_ROOT}(?:{_NAME}+[/\\])*(?P<name>{_NAME}+)")
_PLAIN = re.compile(rf"(?P<before>)(?<![\w.:/\\…]){_ROOT}(?:{_NAME}+[/\\])*(?P<name>{_NAME}+)")


def hide_paths(text: str) -> str:
    """Return `text` with each absolute path shortened to the name of its file or folder."""
    for pattern in (_QUOTED, _URI, _PLAIN):
        text = pattern.sub(r"\g<before>…/\g<name>", text)
    return text
