"""Texts of others that become part of a sentence or a line of a log."""


def write_on_one_line(text: str) -> str:
    """The text with single spaces for white space, control characters, and marks that change the direction of what follows."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
