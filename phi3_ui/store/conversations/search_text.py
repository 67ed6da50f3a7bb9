"""Folds texts for the search, so that it ignores case, accents, Unicode form and width."""

import re
import unicodedata

from phi3_ui.chat.normalization import normalize

_STROKED_LETTER = re.compile(r"LATIN SMALL LETTER (?:DOTLESS )?([A-Z])(?: WITH .*)?")
_LETTER_CLASSES = (0, 9, 84, 91, 103, 118, 129, 130, 132)
"""The canonical combining classes of marks that are not accents: viramas, and vowel signs of Telugu, Thai, Lao and Tibetan."""

_INVISIBLE_MARKS = ("VARIATION SELECTOR", "COMBINING GRAPHEME JOINER")


class _Folding(dict[int, str]):
    """A table for `str.translate` that is filled lazily."""

    def __missing__(self, code: int) -> str:
        decomposed = unicodedata.normalize("NFKD", chr(code)).casefold()
        folded = "".join(map(_fold_letter, unicodedata.normalize("NFKD", decomposed)))
        self[code] = folded
        return folded


def _fold_letter(char: str) -> str:
    """Fold a decomposed character; return "" if it is an accent or invisible."""
    if unicodedata.combining(char) not in _LETTER_CLASSES or unicodedata.category(char) in ("Cf", "Me"):
        return ""
    if unicodedata.category(char) == "Mn" and unicodedata.name(char, "").startswith(_INVISIBLE_MARKS):
        return ""
    # Letters such as ø, ł, đ and the Turkish dotless ı, which Unicode does not decompose.
    stroked = _STROKED_LETTER.fullmatch(unicodedata.name(char, "")) if char > "\x7f" else None
    return stroked[1].lower() if stroked else char


_FOLDING = _Folding()


def fold_text(text: str) -> str:
    """Return the text in NFKD, case-folded, without accents and invisible characters.

    A text matches a query, regardless of these differences, if the folded text contains the folded query.
    """
    if text.isascii():
        return text.lower()
    return normalize("NFKD", text).translate(_FOLDING)  # normalize first, to get multiple marks into canonical order
