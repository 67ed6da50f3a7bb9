"""Ratings from votes: Bradley–Terry strengths with bootstrap intervals.

The model of R. A. Bradley and M. E. Terry ("Rank Analysis of Incomplete Block Designs", 1952): i beats j with probability
σ(θi − θj). A tie, including a tie of two bad answers, counts as half a win for each. A small ridge penalty keeps the strengths
finite if one side has won every vote. Intervals are percentiles of fits to resampled votes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from phi3_ui.arena.votes import Vote

Array = NDArray[np.float64]

CENTRE: Final = 1000.0
"""The mean of the ratings."""
POINTS: Final = 400 / math.log(10)
"""Rating points per unit of strength, on Elo's scale: a difference of 400 corresponds to odds of 10 to 1."""
MIN_VOTES: Final = 20
"""Votes that a contestant needs to be ranked."""
MAX_WIDTH: Final = 400.0
"""Rating points; a contestant with a wider interval is not ranked."""

_RIDGE = 0.1  # does not reduce the coverage of the intervals; with few votes, 0.01 spreads ratings hundreds of points further
_ROUNDS = 1000
_LEVEL = 0.95
_MAX_STEPS = 50
_PRECISION = 1e-9
_Z = 1.959964  # the standard normal distribution's 97.5 % quantile


@dataclass(frozen=True)
class Rating:
    """The strength of one contestant. `rating`, `low` and `high` are in points; the interval has a level of 95 %."""

    contestant: str
    rating: float
    low: float
    high: float
    votes: int
    rank: int | None
    """1 is best; contestants whose intervals overlap may share a rank. None: no rank, see `rate`."""


@dataclass(frozen=True)
class Share:
    """A proportion with its 95 % Wilson interval; `share` is None without observations."""

    share: float | None
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Leaderboard:
    """The ratings of all contestants, strongest first; those without a rank come last."""

    ratings: tuple[Rating, ...]
    wins: dict[tuple[str, str], float]
    """Votes won, by (winner, loser); a tie counts as half a win for each."""
    left_wins: Share
    """Share of the decided votes that are for the answer on the left; far from one half, position bias decides."""


def rate(votes: Sequence[Vote], rounds: int = _ROUNDS, seed: int = 0) -> Leaderboard:
    """Rate every contestant in the votes. `rounds` is the number of resamplings; equal arguments give equal results.

    Only contestants that are connected by votes, directly or through others, can be compared: those outside the largest connected
    group get no rank; nor do those with fewer than MIN_VOTES votes or an interval wider than MAX_WIDTH. Votes between a
    contestant and itself are ignored.
    """
    votes = [vote for vote in votes if vote.left != vote.right]
    if not votes:
        return Leaderboard((), {}, compute_share(0, 0))
    names = sorted({name for vote in votes for name in (vote.left, vote.right)})
    wins = _count_wins(votes, names)
    left = sum(vote.outcome == "left" for vote in votes)
    decided = left + sum(vote.outcome == "right" for vote in votes)
    table = {(one, other): wins[i, j] for i, one in enumerate(names) for j, other in enumerate(names) if i != j}
    return Leaderboard(
        _rate_contestants(names, wins, _resample(votes, names, rounds, seed)),
        {pair: float(count) for pair, count in table.items() if count},
        compute_share(left, decided),
    )


def compute_share(count: int, total: int) -> Share:
    """Return the proportion `count` / `total` with Wilson's score interval."""
    if not total:
        return Share(None, 0.0, 1.0, 0)
    share, z2 = count / total, _Z**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return Share(share, middle - half, middle + half, total)


def _rate_contestants(names: list[str], wins: Array, samples: Array) -> tuple[Rating, ...]:
    strengths = fit_strengths(wins[None])
    points = CENTRE + POINTS * strengths[0]
    tail = (1 - _LEVEL) / 2
    lows, highs = np.quantile(CENTRE + POINTS * fit_strengths(samples, strengths), [tail, 1 - tail], axis=0)
    votes = (wins + wins.T).sum(axis=1)
    has_rank = _find_largest_group(wins) & (votes >= MIN_VOTES) & (highs - lows <= MAX_WIDTH)
    ratings = [
        Rating(
            name,
            float(points[i]),
            float(lows[i]),
            float(highs[i]),
            int(votes[i]),
            1 + int(np.sum(lows[has_rank] > highs[i])) if has_rank[i] else None,
        )
        for i, name in enumerate(names)
    ]
    return tuple(sorted(ratings, key=lambda one: (one.rank is None, -one.rating)))


def fit_strengths(wins: Array, start: Array | None = None) -> Array:
    """Compute the strengths θ by penalised maximum likelihood, with mean 0, using Newton's method on all rounds at once.

    Args:
        wins: Votes won, shape (rounds, contestants, contestants); row i, column j: won by i against j.
        start: Initial strengths, shape (rounds or 1, contestants); zeros by default.

    Returns:
        Strengths, shape (rounds, contestants).

    Raises:
        ArithmeticError: The iteration does not converge.
    """
    rounds, count, _ = wins.shape
    played = wins + wins.transpose(0, 2, 1)
    strengths = np.zeros((rounds, count)) if start is None else np.repeat(start, rounds // len(start), axis=0)
    identity = np.eye(count)
    for _ in range(_MAX_STEPS):
        expected = 1 / (1 + np.exp(strengths[:, None, :] - strengths[:, :, None]))
        slope = (wins - played * expected).sum(axis=2) - _RIDGE * strengths
        weights = played * expected * (1 - expected)
        curvature = identity * (weights.sum(axis=2) + _RIDGE)[:, :, None] - weights
        # A larger step would leave the region in which the quadratic model is accurate.
        step = np.clip(np.linalg.solve(curvature, slope[:, :, None])[:, :, 0], -1, 1)
        strengths = strengths + step
        if np.abs(step).max() < _PRECISION:
            centred: Array = strengths - strengths.mean(axis=1, keepdims=True)
            return centred
    raise ArithmeticError(f"the strengths of {count} contestants do not converge")


def _count_wins(votes: Sequence[Vote], names: list[str]) -> Array:
    """Return the votes won, shape (contestants, contestants); see `fit_strengths`."""
    cells, scores = _index_votes(votes, names)
    wins: Array = _sum_wins(np.ones((1, len(votes))), cells, scores, len(names))[0]
    return wins


def _resample(votes: Sequence[Vote], names: list[str], rounds: int, seed: int) -> Array:
    """Return the votes won in `rounds` bootstrap samples of the votes. Equal votes are drawn together, as one multinomial."""
    cells, scores = _index_votes(votes, names)
    kinds, counts = np.unique(np.stack([cells, scores]), axis=1, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(votes), counts / len(votes), size=rounds)
    return _sum_wins(drawn.astype(float), kinds[0].astype(int), kinds[1], len(names))


def _index_votes(votes: Sequence[Vote], names: list[str]) -> tuple[NDArray[np.int_], Array]:
    """Return for each vote the flat index of (left, right) in the table, and the score of the left answer: 1, ½ or 0."""
    index = {name: i for i, name in enumerate(names)}
    score = {"left": 1.0, "right": 0.0, "tie": 0.5, "both_bad": 0.5}
    cells = np.array([index[vote.left] * len(names) + index[vote.right] for vote in votes], dtype=int)
    return cells, np.array([score[vote.outcome] for vote in votes])


def _sum_wins(weights: Array, cells: NDArray[np.int_], scores: Array, count: int) -> Array:
    """Sum the weighted scores; the result has shape (rounds, count, count)."""
    table = np.zeros((count * count, len(weights)))
    np.add.at(table, cells, (weights * scores).T)
    left = table.T.reshape(-1, count, count)
    table = np.zeros((count * count, len(weights)))
    np.add.at(table, cells, (weights * (1 - scores)).T)
    return np.asarray(left + table.T.reshape(-1, count, count).transpose(0, 2, 1))


def _find_largest_group(wins: Array) -> NDArray[np.bool_]:
    """Return a mask of the contestants in the largest group connected by votes."""
    linked = (wins + wins.T > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(max(1, len(wins).bit_length())):
        linked = linked @ linked
    return np.asarray(linked[np.argmax(linked.sum(axis=1))])
