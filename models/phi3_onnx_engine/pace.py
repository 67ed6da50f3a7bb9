"""Choose, by measured times, the size of a prefill chunk and how many of its segments run between two steps of other requests."""

# Larger chunks are hardly faster.
PREFILL_CHUNK = 64
_MIN_CHUNK = 8
# While others decode, the part of a chunk that is computed between two of their steps may take this many times as long as a
# step. A larger value shortens the wait for a long prompt and lengthens the gaps in the other answers, see bench/README.md.
_SHARE = 2.0
_WEIGHT = 0.25  # of the newest measurement in the moving average


class Pace:
    """Moving averages of step times, in seconds. Not thread-safe."""

    def __init__(self, shared_chunk: int, segments: int = 1) -> None:
        """`shared_chunk` is the maximum size of a chunk, in tokens, while others decode; `segments` is its number of segments."""
        self._shared_chunk, self._segments = shared_chunk, segments
        self._token = self._decode = 0.0

    def choose_chunk_size(self, is_shared: bool) -> int:
        """Return the size of the next chunk in tokens; `is_shared` if others decode."""
        if not is_shared:
            return PREFILL_CHUNK
        if not self._token or not self._decode:
            return _MIN_CHUNK
        fast = int(_SHARE * self._segments * self._decode / self._token)
        return max(_MIN_CHUNK, min(fast, self._shared_chunk))

    def has_time(self, spent: float, segments: int) -> bool:
        """Whether, after `segments` of a chunk in `spent` seconds, there is time for one more before others decode."""
        return spent * (segments + 1) / segments <= _SHARE * self._decode

    def record_prefill(self, tokens: int, seconds: float) -> None:
        """Record the time of one prefill chunk."""
        self._token = _update_average(self._token, seconds / tokens)

    def record_decode(self, seconds: float) -> None:
        """Record the time of one decode step."""
        self._decode = _update_average(self._decode, seconds)


def _update_average(before: float, new: float) -> float:
    return before + _WEIGHT * (new - before) if before else new
