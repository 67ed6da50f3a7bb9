"""Ratings compared with known strengths, and cases without a rank."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi3_ui.arena.ratings import CENTRE, POINTS, Leaderboard, compute_share, fit_strengths, rate
from phi3_ui.arena.votes import Outcome, Vote

STRENGTHS = {"a": 0.6, "b": 0.2, "c": -0.2, "d": -0.6}


def simulate(votes: int, seed: int, ties: float = 0.0) -> list[Vote]:
    """Votes on random pairs of contestants with known strengths."""
    rng, found = random.Random(seed), list[Vote]()
    for _ in range(votes):
        left, right = rng.sample(sorted(STRENGTHS), 2)
        outcome: Outcome = "tie"
        if rng.random() >= ties:
            outcome = "left" if rng.random() < win_probability(STRENGTHS[left] - STRENGTHS[right]) else "right"
        found.append(Vote(left, right, outcome))
    return found


def win_probability(difference: float) -> float:
    return 1 / (1 + math.exp(-difference))


def by_name(board: Leaderboard) -> dict[str, float]:
    return {one.contestant: one.rating for one in board.ratings}


def test_intervals_cover_the_true_strengths_at_the_nominal_rate() -> None:
    covered = [
        one.low <= CENTRE + POINTS * STRENGTHS[one.contestant] <= one.high
        for board in range(200)
        for one in rate(simulate(200, board), rounds=400).ratings
    ]
    assert len(covered) == 800
    assert 0.93 <= np.mean(covered) <= 0.97


def test_many_votes_find_the_true_strengths_and_order() -> None:
    board = rate(simulate(20_000, 1))
    assert [one.contestant for one in board.ratings] == list(STRENGTHS)
    assert [one.rank for one in board.ratings] == [1, 2, 3, 4]
    for one in board.ratings:
        assert one.rating == pytest.approx(CENTRE + POINTS * STRENGTHS[one.contestant], abs=15)
    assert sum(one.votes for one in board.ratings) == 40_000


def test_strengths_reproduce_the_odds_of_the_votes() -> None:
    wins = np.array([[[0.0, 75.0], [25.0, 0.0]]])
    strengths = fit_strengths(wins)[0]
    assert win_probability(strengths[0] - strengths[1]) == pytest.approx(0.75, abs=5e-3)


def test_ties_and_two_bad_answers_are_half_wins() -> None:
    outcomes: list[Outcome] = ["tie", "both_bad"]
    board = rate([Vote("a", "b", outcome) for outcome in outcomes for _ in range(20)])
    assert by_name(board) == pytest.approx({"a": CENTRE, "b": CENTRE})
    assert board.wins == {("a", "b"): 20.0, ("b", "a"): 20.0}
    assert board.left_wins.share is None


def test_a_contestant_that_wins_every_vote_has_a_finite_rating() -> None:
    board = rate([Vote("a", "b", "left") for _ in range(500)])
    assert 1000 < by_name(board)["a"] < 5000


def test_few_votes_give_no_rank() -> None:
    few = rate([Vote("a", "b", "left"), Vote("a", "b", "right")] * 4)
    assert [one.rank for one in few.ratings] == [None, None]
    enough = rate([Vote("a", "b", "left"), Vote("a", "b", "right")] * 40)
    assert [one.rank for one in enough.ratings] == [1, 1]


def test_unconnected_contestants_are_not_ranked_together() -> None:
    votes = [
        Vote(*pair, outcome) for pair in (("a", "b"), ("b", "c"), ("x", "y")) for outcome in _both() for _ in range(60)
    ]
    ranks = {one.contestant: one.rank for one in rate(votes).ratings}
    assert ranks == {"a": 1, "b": 1, "c": 1, "x": None, "y": None}


def test_position_bias_is_measured() -> None:
    votes = [Vote(*pair, "left") for pair in (("a", "b"), ("b", "a")) for _ in range(50)]
    board = rate(votes)
    assert board.left_wins.share == 1
    assert board.left_wins.low > 0.95
    assert by_name(board) == pytest.approx({"a": CENTRE, "b": CENTRE})


def test_without_votes_there_are_no_ratings() -> None:
    assert rate([]).ratings == ()
    assert rate([Vote("a", "a", "left")]).ratings == ()


def test_shares_have_wilsons_interval() -> None:
    share = compute_share(8, 10)
    assert (round(share.low, 3), round(share.high, 3)) == (0.490, 0.943)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcde"), st.sampled_from("abcde"), st.sampled_from(["left", "right", "tie", "both_bad"])
        )
    )
)
def test_any_votes_can_be_rated(votes: list[tuple[str, str, Outcome]]) -> None:
    board = rate([Vote(*vote) for vote in votes], rounds=20)
    for one in board.ratings:
        assert one.low <= one.high
        assert math.isfinite(one.rating)
    if board.ratings:
        assert np.mean([one.rating for one in board.ratings]) == pytest.approx(CENTRE)
    for one, other in itertools.pairwise(board.ratings):
        if one.rank and other.rank:
            assert one.rank <= other.rank or one.rating >= other.rating


def _both() -> list[Outcome]:
    return ["left", "right"]
