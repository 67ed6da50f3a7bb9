"""What of the answers of a blind round is shown while they arrive: nothing that tells which model is the faster one."""

from collections.abc import Sequence

_STEP = 24  # characters; coarser than a token, whose ends would tell which answer is shown to its last one


def hold_back(texts: Sequence[str]) -> list[str]:
    """The beginnings of answers that are under way, all as long as the shortest allows.

    An answer that is complete is not shown to its end before the others are: otherwise the rest would show their own pace.
    """
    length = min(map(len, texts), default=0) // _STEP * _STEP
    return [_cut(text, length) for text in texts]


def _cut(text: str, length: int) -> str:
    """The first `length` characters, without the word that they end within."""
    beginning = text[:length]
    at = max(beginning.rfind(space) for space in " \n\t")
    return text[:at] if at >= max(0, length - _STEP) else beginning
