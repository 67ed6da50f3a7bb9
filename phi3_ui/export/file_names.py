"""File names made from chat titles."""

import unicodedata

from pathvalidate import sanitize_filename
from pathvalidate.handler import ReservedNameHandler

_MAX_BYTES = 120
"""Well below the usual limit of 255, because a number and an extension are added."""


def make_file_name(title: str, taken: dict[str, int]) -> str:
    """Return a name, without extension, that Windows, macOS and Linux accept, and that is not in `taken`.

    `taken` is updated; pass the same dict for all names of one folder. Names that differ only in case or in Unicode
    composition count as equal, as they do on Windows and macOS.
    """
    # pathvalidate leaves control and format characters, and raises for lone surrogates.
    printable = "".join(char if char.isprintable() else " " for char in unicodedata.normalize("NFC", title))
    name = " ".join(_sanitize(printable).split()).encode()[:_MAX_BYTES].decode(errors="ignore")
    name = _sanitize(name.strip(" .-")) or "chat"  # again: stripping may have produced a reserved name
    numbered = name
    while _key(numbered) in taken:
        taken[_key(name)] += 1
        numbered = f"{name} ({taken[_key(name)]})"
    taken[_key(numbered)] = 1
    return numbered


def _sanitize(name: str) -> str:
    return sanitize_filename(
        name,
        replacement_text=" ",
        platform="universal",
        reserved_name_handler=ReservedNameHandler.add_leading_underscore,
        additional_reserved_names=["CONIN$", "CONOUT$"],
    )


def _key(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
