"""How many prompt tokens to prefill at a time, by the measured time of the steps."""

# Larger pieces are hardly faster.
PREFILL_PIECE = 64
_MIN_PIECE = 8
# While others decode, a piece may take so many times as long as one of their steps. More shortens the wait for a long prompt and
# lengthens the gaps of the others, see bench/README.md.
_SHARE = 3.5
_WEIGHT = 0.25  # of the newest measurement in an average


class Pace:
    """Averages of step times, in seconds. One thread at a time."""

    def __init__(self, shared_piece: int) -> None:
        """`shared_piece` is the most tokens of a piece while others decode."""
        self._shared_piece = shared_piece
        self._token = self._decode = 0.0

    def piece(self, is_shared: bool) -> int:
        """Tokens of the next piece; `is_shared` if others decode."""
        if not is_shared:
            return PREFILL_PIECE
        if not self._token or not self._decode:
            return _MIN_PIECE
        fast = int(_SHARE * self._decode / self._token)
        return max(_MIN_PIECE, min(fast, self._shared_piece))

    def note_prefill(self, tokens: int, seconds: float) -> None:
        """Take a piece of a prompt into account."""
        self._token = _average(self._token, seconds / tokens)

    def note_decode(self, seconds: float) -> None:
        """Take one step of all that decode into account."""
        self._decode = _average(self._decode, seconds)


def _average(before: float, new: float) -> float:
    return before + _WEIGHT * (new - before) if before else new
