"""Conditions of a regression gate: evaluation, and rejection of invalid ones."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi3_ui.errors import UserError
from phi3_ui.evaluation.conditions import parse_condition

BASELINE = {"exact_match": 0.5, "p95_first_token": 0.2, "zero": 0.0}


@pytest.mark.parametrize(
    ("text", "candidate", "holds"),
    [
        ("exact_match < baseline - 0.02", {"exact_match": 0.47}, True),
        ("exact_match < baseline - 0.02", {"exact_match": 0.49}, False),
        ("p95_first_token > 1.2 * baseline", {"p95_first_token": 0.25}, True),
        ("p95_first_token>1.2*baseline", {"p95_first_token": 0.23}, False),
        ("exact_match <= 0.5", {"exact_match": 0.5}, True),
        ("exact_match >= (baseline + 1) / 2", {"exact_match": 0.75}, True),
        ("exact_match > -baseline", {"exact_match": 0.0}, True),
    ],
)
def test_a_condition_compares_the_candidate(text: str, candidate: dict[str, float], holds: bool) -> None:
    assert parse_condition(text).holds(candidate, BASELINE) is holds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "exact_match",
        "exact_match == 1",
        "exact_match < ",
        "exact_match < other",
        "exact_match < baseline ** 9",
        "exact_match < __import__('os')",
        "exact_match < baseline.real",
        "exact_match < 'a'",
        "exact_match < True",
        "exact_match < 1 < 2",
        "exact_match < " + "(" * 150,
        "exact_match < " + "9" * 300,
        "1 < exact_match",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_condition(text)
    assert refused.value.code == "bad_condition"


def test_a_missing_metric_is_named_together_with_the_existing_ones() -> None:
    condition = parse_condition("accuracy < baseline")
    with pytest.raises(UserError, match=r"The candidate has no metric accuracy\. Use one of: exact_match"):
        condition.holds({"exact_match": 1.0}, BASELINE)
    with pytest.raises(UserError, match="The baseline has no metric accuracy"):
        condition.holds({"accuracy": 1.0}, BASELINE)


def test_a_condition_without_a_value_is_an_error() -> None:
    with pytest.raises(UserError) as undefined:
        parse_condition("zero > 1 / baseline").holds({"zero": 1.0}, BASELINE)
    assert undefined.value.code == "condition_undefined"
    with pytest.raises(UserError) as not_a_number:
        parse_condition("zero > 1").holds({"zero": float("nan")}, BASELINE)
    assert not_a_number.value.code == "condition_undefined"


@given(st.text(max_size=40))
def test_any_text_is_either_parsed_or_refused(text: str) -> None:
    for condition in (text, f"exact_match < {text}"):
        with contextlib.suppress(UserError):
            parse_condition(condition)
