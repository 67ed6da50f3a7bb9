"""Unicode normalization of untrusted texts."""

import unicodedata
from typing import Literal

_PIECE = 1000  # characters


def normalize(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
    """Return the text in a normal form, computed piece by piece.

    `unicodedata.normalize` sorts combining marks in quadratic time while holding the GIL: half an hour for a million of them. A
    piece ends before a character that is not a combining mark, if there is one within a thousand characters; so the result may
    differ from the normal form only in a longer run of marks, or in a syllable of Hangul jamo.
    """
    pieces, start = list[str](), 0
    while start < len(text):
        end = start + _PIECE
        while end < min(len(text), start + 2 * _PIECE) and unicodedata.combining(text[end]):
            end += 1
        pieces.append(unicodedata.normalize(form, text[start:end]))
        start = end
    return "".join(pieces)
