"""Pace the display of the answers of a blind round, so that it does not reveal which model is faster."""

from collections.abc import Sequence

_STEP = 24  # characters; coarser than a token, since token boundaries would reveal which answer is shown completely


def hold_back(texts: Sequence[str]) -> list[str]:
    """Return the beginnings of answers in progress, all about as long as the shortest one.

    A complete answer is not shown to its end before the others: otherwise the remaining answers would reveal their own pace.
    """
    length = min(map(len, texts), default=0) // _STEP * _STEP
    return [_cut(text, length) for text in texts]


def _cut(text: str, length: int) -> str:
    """Return the first `length` characters of a text without the last, incomplete word."""
    beginning = text[:length]
    at = max(beginning.rfind(space) for space in " \n\t")
    return text[:at] if at >= max(0, length - _STEP) else beginning
