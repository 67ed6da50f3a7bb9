"""Tokens → text: incremental detokenisation, and stop strings.

phi3_ui/runtime has both classes too, since an artifact must stand alone; tests cover both.
"""

from tokenizers import Tokenizer


class TextStream:
    """Incremental detokeniser: text once its characters are complete, U+FFFD for malformed UTF-8."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # the last piece, which decides about the next one's spaces, and pending tokens
        self._emitted = 0  # how many of _ids have been emitted

    def start_after(self, token: int) -> None:
        """Continue a text whose last token this is."""
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
        """The rest: an incomplete character, once no more tokens come."""
        before, text = self._tokenizer.decode(self._ids[: self._emitted]), self._tokenizer.decode(self._ids)
        # A stray byte changes how its neighbours decode.
        return str(
            text[len(before) :] if text.startswith(before) else self._tokenizer.decode(self._ids[self._emitted :])
        )


class StopStrings:
    """Passes text up to the first stop string; holds back what may still become one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.hit = False

    def push(self, text: str) -> str:
        """Add text; return what is certain to precede any stop string. Nothing after a hit."""
        return self._pass(text, last=False)

    def flush(self) -> str:
        """The text still held back, once no more comes."""
        return self._pass("", last=True)

    def _pass(self, text: str, last: bool) -> str:
        if self.hit or not self._stops:
            return "" if self.hit else text
        held = self._held + text
        found = min((at for stop in self._stops if (at := held.find(stop)) >= 0), default=-1)
        # A stop string that began earlier may still be incomplete.
        open_ = len(held) if last else min(len(held) - _overlap(held, stop) for stop in self._stops)
        self.hit = 0 <= found <= open_
        cut = found if self.hit else open_
        self._held = "" if self.hit else held[cut:]
        return held[:cut]


def _overlap(text: str, stop: str) -> int:
    """The length of the longest proper prefix of `stop` that ends `text`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
