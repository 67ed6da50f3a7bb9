"""Convert tokens to text: incremental detokenisation, and stop strings.

phi3_ui/runtime contains both classes too, since an artifact must be self-contained; tests cover both.
"""

from tokenizers import Tokenizer


class TextStream:
    """Incremental detokeniser: returns text once its characters are complete, with U+FFFD for malformed UTF-8."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # the last emitted text's tokens, on which the next spaces depend, and pending tokens
        self._emitted = 0  # number of _ids already emitted

    def start_after(self, token: int) -> None:
        """Continue a text that ends with `token`."""
        self._ids, self._emitted = [token], 1

    def push(self, token: int) -> str:
        """Add a token; return the text that it completes."""
        self._ids.append(token)
        piece = self.flush()
        if not piece or piece.endswith("\ufffd"):
            return ""
        self._ids = self._ids[self._emitted :]
        self._emitted = len(self._ids)
        return piece

    def flush(self) -> str:
        """Return the remaining text, such as an incomplete character, when there are no more tokens."""
        before, text = self._tokenizer.decode(self._ids[: self._emitted]), self._tokenizer.decode(self._ids)
        # A stray byte changes how its neighbours decode.
        return str(
            text[len(before) :] if text.startswith(before) else self._tokenizer.decode(self._ids[self._emitted :])
        )


class StopStrings:
    """Passes text up to the first stop string; holds back text that may still become one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.hit = False

    def push(self, text: str) -> str:
        """Add text; return the text that certainly precedes any stop string. Returns nothing after a hit."""
        return self._pass(text, last=False)

    def flush(self) -> str:
        """Return the text still held back, when there is no more text."""
        return self._pass("", last=True)

    def _pass(self, text: str, last: bool) -> str:
        if self.hit or not self._stops:
            return "" if self.hit else text
        held = self._held + text
        found = min((at for stop in self._stops if (at := held.find(stop)) >= 0), default=-1)
        # A stop string that began earlier may still be incomplete.
        open_ = len(held) if last else min(len(held) - _count_overlap(held, stop) for stop in self._stops)
        self.hit = 0 <= found <= open_
        cut = found if self.hit else open_
        self._held = "" if self.hit else held[cut:]
        return held[:cut]


def _count_overlap(text: str, stop: str) -> int:
    """Return the length of the longest proper prefix of `stop` that ends `text`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
