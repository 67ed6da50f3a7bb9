"""Names for files, made of titles."""

import re
import unicodedata

_FORBIDDEN = '<>:"/\\|?*'
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\.|$)", re.IGNORECASE)
_BYTES = 120  # of 255 that a name may have; a number and an ending are added


def safe_file_name(title: str, taken: dict[str, int]) -> str:
    """A name, without its ending, that Windows, macOS and Linux take; `taken` is what this was given before, kept here.

    Names that differ in case or in the way a letter is composed are one name, as on Windows and macOS.
    """
    letters = unicodedata.normalize("NFC", title)
    shown = "".join(one if one.isprintable() and one not in _FORBIDDEN else " " for one in letters)
    name = " ".join(shown.split()).strip(" .-").encode()[:_BYTES].decode(errors="ignore").rstrip(" .") or "chat"
    if _RESERVED.match(name):
        name = f"_{name}"
    numbered = name
    while _key(numbered) in taken:
        taken[_key(name)] += 1
        numbered = f"{name} ({taken[_key(name)]})"
    taken[_key(numbered)] = 1
    return numbered


def _key(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
