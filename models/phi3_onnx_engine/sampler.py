"""Sample tokens from logits, in the same way for every engine."""

from collections import Counter
from typing import Any, Protocol

import numpy as np

from .engine import Logits


class SamplingOptions(Protocol):
    """The sampling options of one answer, as phi3_onnx.Options documents them."""

    @property
    def temperature(self) -> float: ...  # noqa: D102
    @property
    def top_p(self) -> float: ...  # noqa: D102
    @property
    def top_k(self) -> int: ...  # noqa: D102
    @property
    def repetition_penalty(self) -> float: ...  # noqa: D102
    @property
    def presence_penalty(self) -> float: ...  # noqa: D102
    @property
    def frequency_penalty(self) -> float: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


class Sampler:
    """Samples one answer's tokens from logits; deterministic with a seed."""

    def __init__(self, options: SamplingOptions, prompt: list[int]) -> None:
        self._options = options
        self._counts: Counter[int] = Counter()
        self._seen = set(prompt)
        self._random = np.random.default_rng(None if options.seed < 0 else options.seed)

    def __call__(self, logits: Logits) -> int:
        """Return the next token. Changes `logits` (vocabulary,) in place."""
        options = self._options
        if options.repetition_penalty != 1.0:
            seen = list(self._seen)
            values = logits[seen]
            logits[seen] = np.where(
                values < 0, values * options.repetition_penalty, values / options.repetition_penalty
            )
        if self._counts and (options.presence_penalty or options.frequency_penalty):
            counts = np.fromiter(self._counts.values(), dtype=np.float32)
            logits[list(self._counts)] -= options.presence_penalty + options.frequency_penalty * counts
        token = int(logits.argmax()) if options.temperature == 0 else self._draw(logits)
        self._counts[token] += 1
        self._seen.add(token)
        return token

    def _draw(self, logits: Logits) -> int:
        """Sample with temperature, top-k and nucleus (top-p) filtering."""
        options = self._options
        best = np.arange(len(logits))
        if 0 < options.top_k < len(logits):
            best = np.argpartition(logits, -options.top_k)[-options.top_k :]
        scaled = logits[best].astype(np.float64) / options.temperature
        chances = np.exp(scaled - scaled.max())
        if options.top_p < 1:
            best, chances = _select_nucleus(best, chances, options.top_p)
        sums = chances.cumsum()
        return int(best[min(int(np.searchsorted(sums, self._random.random() * sums[-1], "right")), len(best) - 1)])


def _select_nucleus(best: Any, chances: Any, top_p: float) -> tuple[Any, Any]:
    """Return the nucleus: the most likely tokens that together have `top_p` of the probability; always at least one."""
    total, few = chances.sum(), 256
    # Sorting the whole vocabulary takes milliseconds, and more than a few tokens are rarely needed.
    likely = np.argpartition(chances, -few)[-few:] if len(chances) > few else np.arange(len(chances))
    if chances[likely].sum() < top_p * total:
        likely = np.arange(len(chances))
    order = likely[np.argsort(-chances[likely], kind="stable")]
    before = chances[order].cumsum() - chances[order]
    kept = order[before < top_p * total]
    return best[kept], chances[kept]
