"""Test whether two models that answered the same questions differ: exact McNemar tests and paired bootstrap intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

LEVEL: Final = 0.95
_ROUNDS = 2_000


@dataclass(frozen=True)
class PairedDifference:
    """The difference in one score, candidate minus baseline, over the questions for which both have it."""

    questions: int
    baseline: float
    """Mean."""
    candidate: float
    """Mean."""
    low: float
    """Lower end of the difference's 95 % interval (paired bootstrap)."""
    high: float
    """Upper end of that interval."""
    p_value: float | None
    """Of McNemar's exact two-sided test if all scores are 0 or 1, else None."""

    @property
    def difference(self) -> float:
        """Candidate minus baseline."""
        return self.candidate - self.baseline


def compare_scores(
    baseline: Sequence[float | None], candidate: Sequence[float | None], seed: int = 0
) -> PairedDifference | None:
    """Compare scores question by question; return None if no question has both.

    Args:
        baseline: A score for each question; None if there is none, as for a failed answer.
        candidate: Scores for the same questions, in the same order.
        seed: Of the resampling; equal seeds give equal results.

    Raises:
        ValueError: The lists differ in length.
    """
    pairs = [
        (one, other) for one, other in zip(baseline, candidate, strict=True) if one is not None and other is not None
    ]
    if not pairs:
        return None
    before, after = np.array(pairs, dtype=float).T
    rng = np.random.default_rng(seed)
    # A resampling is represented by how often it draws each difference; equal differences are drawn together.
    differences, counts = np.unique(after - before, return_counts=True)
    drawn = rng.multinomial(len(pairs), counts / len(pairs), size=_ROUNDS)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn @ differences / len(pairs), [tail, 1 - tail])
    is_binary = bool(np.isin([before, after], (0, 1)).all())
    return PairedDifference(
        len(pairs),
        float(before.mean()),
        float(after.mean()),
        float(low),
        float(high),
        compute_mcnemar_p_value(int(((before == 1) & (after == 0)).sum()), int(((before == 0) & (after == 1)).sum()))
        if is_binary
        else None,
    )


def compute_mcnemar_p_value(lost: int, gained: int) -> float:
    """Return the exact two-sided p-value of McNemar's test (1947).

    Args:
        lost: Number of questions that only the baseline answered correctly.
        gained: Number of questions that only the candidate answered correctly.
    """
    changed = lost + gained
    tail: float = sum(math.comb(changed, count) for count in range(min(lost, gained) + 1)) / 2**changed
    return min(1.0, 2 * tail)
