"""Stop strings: texts that end an answer and are not part of it."""


class StopStrings:
    """Passes text through up to the first stop string; holds back text that may become one.

    The output does not depend on how the text is split. models/phi3_onnx_engine has its own copy of this class, because it
    must be self-contained; one test covers both.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._pending = ""
        self.hit = False
        """Whether a stop string was found."""

    def push(self, text: str) -> str:
        """Add `text`, and return the text that certainly precedes any stop string; empty after a hit."""
        return self._advance(text, is_last=False)

    def flush(self) -> str:
        """Return the text still held back, when no more follows."""
        return self._advance("", is_last=True)

    def _advance(self, text: str, is_last: bool) -> str:
        if self.hit or not self._stops:
            return "" if self.hit else text
        pending = self._pending + text
        found = min((start for stop in self._stops if (start := pending.find(stop)) >= 0), default=-1)
        # A stop string that begins before the one found may still be incomplete.
        safe = len(pending) if is_last else min(len(pending) - _overlap(pending, stop) for stop in self._stops)
        self.hit = 0 <= found <= safe
        cut = found if self.hit else safe
        self._pending = "" if self.hit else pending[cut:]
        return pending[:cut]


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` are a proper prefix of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
