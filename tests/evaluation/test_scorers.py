"""The built-in scorers."""

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.types import Timings, Usage
from phi3_ui.errors import UserError
from phi3_ui.evaluation.scorers import (
    SCORER_KINDS,
    Score,
    ScoringError,
    measure_similarity,
    parse_scorers,
    require_expectations,
    score_answer,
)
from tests.support.evaluating import make_record

_SCHEMA = json.dumps({"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}})


def _score(spec: str, text: str, **expectations: object) -> Score:
    (scorer,) = parse_scorers([spec])
    return score_answer(scorer, Answer("m", text, Usage(1, 2), Timings(0.25, 1.5, 60.0), "stop"), expectations)


@pytest.mark.parametrize(
    ("spec", "text", "expected", "score"),
    [
        ("exact_match", " Paris\n", "Paris", True),
        ("exact_match", "two  words", "two words", True),
        ("exact_match", "paris", "Paris", False),
        ("exact_match", "Paris", None, None),
        ("exact_match", "4", 4, True),
        ("contains", "It is PARIS.", "paris", True),
        ("contains", "It is Rome.", "paris", False),
        ("contains", "It is Rome.", None, None),
        ("contains=rome", "It is Rome.", None, True),
        ("contains=a=b", "so a=b", None, True),
        (r"regex=^\d+$", "42", None, True),
        (r"regex=^\d+$", "42nd", None, False),
        (f"json_schema={_SCHEMA}", '{"city": "Paris"}', None, True),
        (f"json_schema={_SCHEMA}", '{"city": 1}', None, False),
        (f"json_schema={_SCHEMA}", "Paris", None, False),
        (f"json_schema={_SCHEMA}", "[" * 100_000, None, False),
        ("length=2..3", "one two", None, True),
        ("length=2..3", "one", None, False),
        ("length=..1", "one two", None, False),
        ("length=2..", "one two", None, True),
        ("forbidden_words=sorry, AI model", "So sorry.", None, False),
        ("forbidden_words=sorry, AI model", "as an ai MODEL I", None, False),
        ("forbidden_words=ass", "The class passes.", None, True),
        ("similarity", "the cat sat", "The cat  sat", 1.0),
        ("similarity", "the cat", "a dog", 0.0),
        ("similarity", "the cat sat", None, None),
        ("latency", "", None, 1.5),
        ("first_token", "", None, 0.25),
        ("tokens_per_second", "", None, 60.0),
    ],
)
def test_scores(spec: str, text: str, expected: object, score: Score) -> None:
    assert _score(spec, text, **({} if expected is None else {"expected_response": expected})) == score


def test_a_failed_answer_is_wrong_and_has_no_latency() -> None:
    failed = Answer("m", "", error=("refused", {"model": "m", "detail": "no"}))
    specs = ["exact_match", "forbidden_words=a", "similarity", "latency"]

    assert [score_answer(scorer, failed, {"expected_response": "a"}) for scorer in parse_scorers(specs)] == [
        False,
        False,
        0.0,
        None,
    ]
    assert score_answer(parse_scorers(["exact_match"])[0], failed, {}) is None


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "unknown",
        "exact_match=x",
        "regex",
        "regex=(",
        "json_schema",
        "json_schema={",
        'json_schema={"type": 1}',
        'json_schema={"pattern": "("}',
        'json_schema={"patternProperties": {"a": {}}}',
        "length",
        "length=..",
        "length=a..b",
        "forbidden_words= , ",
        "similarity=x",
        "latency=x",
    ],
)
def test_a_bad_spec_is_refused_with_the_reason(spec: str) -> None:
    with pytest.raises(UserError, match="is not a scorer"):
        parse_scorers([spec])


def test_the_names_of_scorers_are_unique() -> None:
    assert [scorer.name for scorer in parse_scorers(["regex=a", "second:regex=b"])] == ["regex", "second"]
    with pytest.raises(UserError, match="Two scorers are called regex"):
        parse_scorers(["regex=a", "regex=b"])
    assert "exact_match" in SCORER_KINDS


def test_a_scorer_without_any_expectation_is_refused() -> None:
    scorers, without_expectation = parse_scorers(["exact_match"]), [make_record("Hi")]
    require_expectations(scorers, [*without_expectation, make_record("Bye", expected_response="Bye")])
    with pytest.raises(UserError, match="No request in the prompt set has expected_response"):
        require_expectations(scorers, without_expectation)


def test_a_pattern_with_catastrophic_backtracking_times_out() -> None:
    started = time.monotonic()
    with pytest.raises(ScoringError, match="more than 1 s"):
        _score("regex=^(.*?,){11}P", "," + ",".join(map(str, range(25))))
    assert time.monotonic() - started < 30


def test_patterns_of_a_schema_have_the_same_timeout() -> None:
    schema = json.dumps({"pattern": "^(.*?,){11}P"})
    assert _score(f"json_schema={schema}", '"x"') is False
    with pytest.raises(ScoringError, match="more than 1 s"):
        _score(f"json_schema={schema}", json.dumps("," + ",".join(map(str, range(25)))))


@given(st.sampled_from(SCORER_KINDS), st.text())
def test_any_spec_is_either_parsed_or_refused(kind: str, argument: str) -> None:
    with contextlib.suppress(UserError):
        parse_scorers([f"{kind}={argument}"])
    with contextlib.suppress(UserError):
        parse_scorers([argument])


def test_no_schema_is_fetched() -> None:
    with pytest.raises(ScoringError, match=r"refers to http://127\.0\.0\.1:9/x"):
        _score('json_schema={"$ref": "http://127.0.0.1:9/x"}', "1")


@pytest.mark.parametrize(
    ("text", "other"),
    [("a " * 100_000, "a " * 99_999 + "b"), ("a b " * 50_000, "b a " * 50_000), ("a b c " * 400, "c b a " * 400)],
    ids=["equal but for the end", "alternating", "reversed"],
)
def test_similarity_of_any_texts_takes_little_time(text: str, other: str) -> None:
    started = time.thread_time()
    assert 0 <= measure_similarity(text, other) <= 1
    assert time.thread_time() - started < 10  # difflib takes hours for the longer ones


@given(st.text(), st.text())
def test_similarity_is_between_0_and_1(text: str, other: str) -> None:
    assert 0 <= measure_similarity(text, other) <= 1
    assert measure_similarity(text, text) == 1
