"""The regression gate: conditions, comparison and reports."""

from collections.abc import Sequence

import pytest

from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.types import Timings
from phi3_ui.errors import UserError
from phi3_ui.evaluation.answer_rows import EvaluatedAnswer, list_metric_names, summarize_answers
from phi3_ui.evaluation.conditions import parse_condition
from phi3_ui.evaluation.gate import GateResult, decide, describe_result, format_result, write_junit
from tests.support.evaluating import make_record


def _answers(scores: Sequence[float], seconds: float = 1.0) -> list[EvaluatedAnswer]:
    return [
        EvaluatedAnswer(
            str(number),
            make_record(f"Question {number}"),
            0,
            Answer("m", "a", timings=Timings(seconds / 10, seconds, 50.0), finish_reason="stop"),
            f"tr-{number}",
            {"exact_match": score},
        )
        for number, score in enumerate(scores)
    ]


def _decide(candidate: Sequence[EvaluatedAnswer], *conditions: str) -> GateResult:
    baseline = _answers([1.0] * 8 + [0.0] * 2)
    return decide(
        ("old@champion", "new/2"), [parse_condition(condition) for condition in conditions], baseline, candidate
    )


def test_the_gate_passes_and_fails() -> None:
    worse = _answers([1.0] * 2 + [0.0] * 8, seconds=1.3)
    passed = _decide(_answers([1.0] * 9 + [0.0]), "exact_match < baseline - 0.02", "p95_first_token > 1.2 * baseline")
    failed = _decide(worse, "exact_match < baseline - 0.02", "p95_first_token > 1.2 * baseline", "failures > 0")

    assert (passed.has_passed, [condition.has_failed for condition in passed.conditions]) == (True, [False, False])
    assert (failed.has_passed, [condition.has_failed for condition in failed.conditions]) == (
        False,
        [True, True, False],
    )
    change = failed.differences["exact_match"]
    assert (change.questions, change.baseline, change.candidate) == (10, 0.8, 0.2)
    assert change.p_value == pytest.approx(2 * 0.5**6)  # six questions lost, none gained
    assert failed.differences["first_token"].p_value is None
    assert failed.conditions[1].limit == pytest.approx(0.12)


def test_a_candidate_without_a_baseline_is_compared_with_numbers() -> None:
    result = decide(("", "new"), [parse_condition("exact_match < 0.5")], [], _answers([1.0, 0.0]))

    assert (result.has_passed, result.differences) == (True, {})
    assert "exact_match/low" in format_result(result)
    with pytest.raises(UserError, match="baseline has no metric exact_match"):
        decide(("", "new"), [parse_condition("exact_match < baseline")], [], _answers([1.0]))


def test_junit_and_json_reports_agree() -> None:
    result = _decide(_answers([0.0] * 10), "exact_match < baseline", "mean_seconds > 2")

    junit = write_junit(result, "capitals\x00").decode()
    assert '<testsuite name="evaluate capitals\ufffd" tests="2" failures="1">' in junit
    assert (junit.count('<testcase classname="new/2"'), junit.count("<failure ")) == (2, 1)
    description = describe_result(result)
    assert (description["passed"], [condition["failed"] for condition in description["conditions"]]) == (
        False,
        [True, False],
    )
    assert description["comparison"][0]["difference"] == pytest.approx(-0.8)
    assert "new/2 has FAILED" in format_result(result)


def test_every_metric_name_is_known() -> None:
    assert set(summarize_answers(_answers([1.0, 0.0]))) <= list_metric_names(["exact_match"])
