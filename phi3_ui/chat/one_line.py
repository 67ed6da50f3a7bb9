"""Makes untrusted text safe in a message or a log line."""


def write_on_one_line(text: str) -> str:
    """Return the text with single spaces for white space, control characters, and marks that change the text direction."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
