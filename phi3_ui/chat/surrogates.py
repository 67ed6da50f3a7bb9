"""Lone surrogates: halves of a character, which Python's strings and JSON can hold, but UTF-8 cannot."""


def replace_surrogates(text: str) -> str:
    """The text with U+FFFD for each lone surrogate; two halves that stand together become their character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
