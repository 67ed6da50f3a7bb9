"""Counts the values of a JSON text without parsing it: even a body of acceptable size may contain millions of empty lists."""

_NUL = b"\0"


def has_more_values(text: str | bytes, limit: int) -> bool:
    """Return whether a complete JSON text may have more than `limit` values."""
    if len(text) <= limit:
        return False
    counter = ValueCounter()
    counter.add(text.encode(errors="replace") if isinstance(text, str) else text)
    return counter.count > limit


class ValueCounter:
    """Counts the values of a JSON text as it arrives: one for each comma and each opening bracket outside of strings."""

    def __init__(self) -> None:
        self.count = 0
        """An upper bound on the values so far."""
        self._is_in_string = False
        self._has_strings = True
        self._cut = b""
        """A backslash at the end, whose escape continues in the next piece."""

    def add(self, piece: bytes) -> None:
        """Count the next piece."""
        # UTF-16 and UTF-32, which parsers also accept, contain NULs. Strings in them are not recognised, so everything counts.
        self._has_strings = self._has_strings and _NUL not in piece
        outside = self._drop_strings(piece) if self._has_strings else piece
        self.count += outside.count(b",") + outside.count(b"[") + outside.count(b"{")

    def _drop_strings(self, piece: bytes) -> bytes:
        piece = self._cut + piece
        end = len(piece) - (len(piece) - len(piece.rstrip(b"\\"))) % 2
        piece, self._cut = piece[:end], piece[end:]
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = parts[1::2] if self._is_in_string else parts[::2]
        self._is_in_string ^= len(parts) % 2 == 0
        return b"".join(outside)
