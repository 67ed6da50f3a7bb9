"""Paired comparisons against known values and known coverage."""

import numpy as np
import pytest

from phi3_ui.evaluation.paired import compare_scores, compute_mcnemar_p_value


@pytest.mark.parametrize(
    ("lost", "gained", "p_value"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (1, 9, 0.021484375), (10, 2, 0.03857421875)],
)
def test_mcnemars_exact_test(lost: int, gained: int, p_value: float) -> None:
    """The expected values come from the binomial distribution with p = ½."""
    assert compute_mcnemar_p_value(lost, gained) == pytest.approx(p_value)


def test_scores_are_compared_per_question() -> None:
    comparison = compare_scores([1, 0, 0, None, 1], [1, 1, 1, 1, None])
    assert comparison
    assert (comparison.questions, comparison.candidate) == (3, 1.0)
    assert comparison.baseline == pytest.approx(1 / 3)
    assert comparison.difference == pytest.approx(2 / 3)
    assert comparison.low <= comparison.difference <= comparison.high
    assert comparison.p_value == 0.5


def test_only_scores_of_0_and_1_get_a_p_value() -> None:
    comparison = compare_scores([0.25, 0.5], [0.5, 0.75])
    assert comparison
    assert comparison.p_value is None
    assert (comparison.low, comparison.high) == (0.25, 0.25)


def test_without_common_questions_there_is_no_comparison() -> None:
    assert compare_scores([None, 1], [1, None]) is None
    with pytest.raises(ValueError, match="shorter"):
        compare_scores([1, 1], [1])


def test_intervals_cover_the_true_difference_at_the_nominal_rate() -> None:
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        baseline = rng.normal(0, 1, 80)
        comparison = compare_scores(list(baseline), list(baseline + rng.normal(0.3, 0.5, 80)))
        assert comparison
        covered += comparison.low <= 0.3 <= comparison.high
    assert 0.91 <= covered / 200 <= 0.98


def test_equal_arguments_give_equal_intervals() -> None:
    scores = [0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0]
    assert compare_scores(*scores) == compare_scores(*scores)
