"""Stop strings: text that ends an answer, and never shows.

models/phi3_onnx.py has the same class of its own, because that file goes alone into the store. One test holds both.
"""


class StopStrings:
    """Text passes through up to the first place where a stop string begins; what may still become one is held back.

    The text that comes out does not depend on how it was cut into pieces. `hit` turns True when a stop string was found.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.hit = False

    def push(self, text: str) -> str:
        """What may be shown once `text` has come; nothing after a hit."""
        return self._pass(text, last=False)

    def flush(self) -> str:
        """What was still held back: no more text will come."""
        return self._pass("", last=True)

    def _pass(self, text: str, last: bool) -> str:
        if self.hit or not self._stops:
            return "" if self.hit else text
        held = self._held + text
        found = min((at for stop in self._stops if (at := held.find(stop)) >= 0), default=-1)
        # A stop string that began earlier may still be on its way.
        open_ = len(held) if last else min(len(held) - _overlap(held, stop) for stop in self._stops)
        self.hit = 0 <= found <= open_
        cut = found if self.hit else open_
        self._held = "" if self.hit else held[cut:]
        return held[:cut]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` begin `stop`, without being all of it."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
