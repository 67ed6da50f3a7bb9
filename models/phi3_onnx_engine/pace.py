"""How many prompt tokens to prefill at a time, and how many of their segments between two steps of others, by measured times."""

# Larger pieces are hardly faster.
PREFILL_PIECE = 64
_MIN_PIECE = 8
# While others decode, what is computed of a piece between two of their steps may take so many times as long as a step. More
# shortens the wait for a long prompt and lengthens the gaps of the others, see bench/README.md.
_SHARE = 2.0
_WEIGHT = 0.25  # of the newest measurement in an average


class Pace:
    """Averages of step times, in seconds. One thread at a time."""

    def __init__(self, shared_piece: int, segments: int = 1) -> None:
        """`shared_piece` is the most tokens of a piece while others decode, `segments` in how many segments it is computed."""
        self._shared_piece, self._segments = shared_piece, segments
        self._token = self._decode = 0.0

    def piece(self, is_shared: bool) -> int:
        """Tokens of the next piece; `is_shared` if others decode."""
        if not is_shared:
            return PREFILL_PIECE
        if not self._token or not self._decode:
            return _MIN_PIECE
        fast = int(_SHARE * self._segments * self._decode / self._token)
        return max(_MIN_PIECE, min(fast, self._shared_piece))

    def has_time(self, spent: float, segments: int) -> bool:
        """Whether, after `segments` of a piece in `spent` seconds, one more has time before others decode."""
        return spent * (segments + 1) / segments <= _SHARE * self._decode

    def note_prefill(self, tokens: int, seconds: float) -> None:
        """Take a piece of a prompt into account."""
        self._token = _average(self._token, seconds / tokens)

    def note_decode(self, seconds: float) -> None:
        """Take one step of all that decode into account."""
        self._decode = _average(self._decode, seconds)


def _average(before: float, new: float) -> float:
    return before + _WEIGHT * (new - before) if before else new
