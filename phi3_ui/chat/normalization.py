"""Unicode normalization of texts that may be hostile."""

import unicodedata
from typing import Literal

_PIECE = 1000  # characters


def normalize(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
    """The text in a normal form, computed piece by piece.

    `unicodedata.normalize` sorts combining marks in quadratic time, while no other thread runs: half an hour for a million of them. A
    piece ends before a character that is no mark, unless there is none; so only a run of more than a thousand marks, or a syllable of
    Hangul's single letters, may be normalized otherwise.
    """
    pieces, start = list[str](), 0
    while start < len(text):
        end = start + _PIECE
        while end < min(len(text), start + 2 * _PIECE) and unicodedata.combining(text[end]):
            end += 1
        pieces.append(unicodedata.normalize(form, text[start:end]))
        start = end
    return "".join(pieces)
