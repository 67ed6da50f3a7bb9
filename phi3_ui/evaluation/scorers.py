"""Built-in scorers: pure functions of an answer and its expectations, given by specs such as `length=..80`.

A spec is `KIND`, `KIND=ARGUMENT` or `NAME:KIND=ARGUMENT`; the name is that of the metric, by default the kind. A score is a bool
or a number; None if the answer cannot be scored, for instance without the expectation that the scorer compares with.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import regex
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.word_diff import measure_overlap
from phi3_ui.errors import UserError
from phi3_ui.evaluation.prompt_set import EXPECTED_RESPONSE, PromptRecord

Score = bool | float | None

_PATTERN_SECONDS = 1.0
_SPEC = re.compile(r"(?:(?P<name>[A-Za-z_]\w*):)?(?P<kind>[a-z_]+)(?:=(?P<argument>.*))?", re.DOTALL)
_LENGTH = re.compile(r"(\d*)\.\.(\d*)")


class ScoringError(Exception):
    """A scorer cannot score an answer; str() gives the reason."""


@dataclass(frozen=True)
class Scorer:
    """One scorer, ready for use."""

    name: str
    spec: str
    score: Callable[[Answer, Mapping[str, Any]], Score]
    """Scores an answer, given its expectations. Raises ScoringError."""
    expectation: str = ""
    """The expectation that it compares with; empty for none."""
    is_measurement: bool = False
    """Measures something other than the text: a failed answer has no such score, while other scorers count it as wrong."""


def score_answer(scorer: Scorer, answer: Answer, expectations: Mapping[str, Any]) -> Score:
    """Score an answer. A failed one is wrong: False, or 0 if scores are numbers. Raises ScoringError."""
    if scorer.expectation and scorer.expectation not in expectations:
        return None
    if answer.error is None:
        return scorer.score(answer, expectations)
    if scorer.is_measurement:
        return None
    return 0.0 if scorer.spec.endswith(_SIMILARITY) else False


def parse_scorers(specs: Sequence[str]) -> list[Scorer]:
    """Parse the specs of scorers. Raises UserError: bad_scorer, scorer_twice."""
    scorers = list(map(_parse_scorer, specs))
    names = [scorer.name for scorer in scorers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError("scorer_twice", name=twice)
    return scorers


def require_expectations(scorers: Collection[Scorer], records: Collection[PromptRecord]) -> None:
    """Raise UserError("scorer_without_expectation") if a scorer could not score any answer to these requests."""
    for scorer in scorers:
        if scorer.expectation and not any(scorer.expectation in record.expectations for record in records):
            raise UserError("scorer_without_expectation", scorer=scorer.name, expectation=scorer.expectation)


def _parse_scorer(spec: str) -> Scorer:
    found = _SPEC.fullmatch(spec.strip())
    build = _KINDS.get(found["kind"]) if found else None
    if found is None or build is None:
        raise UserError("bad_scorer", scorer=spec, detail=", ".join(_KINDS))
    try:
        return build(found["name"] or found["kind"], spec.strip(), found["argument"])
    except ValueError as error:
        raise UserError("bad_scorer", scorer=spec, detail=str(error)) from error


def _exact_match(name: str, spec: str, argument: str | None) -> Scorer:
    if argument is not None:
        raise ValueError("exact_match takes no argument")
    return Scorer(
        name,
        spec,
        lambda answer, expected: _normalize(answer.text) == _normalize(str(expected[EXPECTED_RESPONSE])),
        EXPECTED_RESPONSE,
    )


def _contains(name: str, spec: str, argument: str | None) -> Scorer:
    if argument:
        return Scorer(name, spec, lambda answer, _: argument.casefold() in answer.text.casefold())
    return Scorer(
        name,
        spec,
        lambda answer, expected: str(expected[EXPECTED_RESPONSE]).strip().casefold() in answer.text.casefold(),
        EXPECTED_RESPONSE,
    )


def _regex(name: str, spec: str, argument: str | None) -> Scorer:
    if not argument:
        raise ValueError("regex needs a pattern: regex=PATTERN")
    try:
        pattern = regex.compile(argument)
    except regex.error as error:
        raise ValueError(f"regex: {error}") from error
    return Scorer(name, spec, lambda answer, _: _search(pattern, answer.text))


def _search(pattern: "regex.Pattern[str]", text: str) -> bool:
    try:
        # `concurrent` releases the GIL, so that other threads of the server are not blocked.
        return pattern.search(text, timeout=_PATTERN_SECONDS, concurrent=True) is not None
    except TimeoutError as error:
        raise ScoringError(f"the pattern takes more than {_PATTERN_SECONDS:g} s") from error


def _json_schema(name: str, spec: str, argument: str | None) -> Scorer:
    try:
        schema = json.loads(argument or "")
        Draft202012Validator.check_schema(schema)
    except (ValueError, RecursionError) as error:
        raise ValueError("json_schema=SCHEMA is not JSON") from error
    except SchemaError as error:
        raise ValueError(f"json_schema: {error.message}") from error
    if "patternProperties" in json.dumps(schema):
        raise ValueError(
            "json_schema: patternProperties is not supported, since matching it has no time limit; list the properties"
        )
    # The registry is empty so that references to other addresses are never fetched.
    validator = _Validator(schema, registry=Registry())
    return Scorer(name, spec, lambda answer, _: _is_valid(validator, answer.text))


def _check_pattern(validator: Any, pattern: str, instance: Any, _: Any) -> Iterator[ValidationError]:
    """Check a pattern as jsonschema does, but with a time limit."""
    try:
        if validator.is_type(instance, "string") and not _search(regex.compile(pattern), instance):
            yield ValidationError(f"{instance!r} does not match {pattern!r}")
    except regex.error as error:
        raise ScoringError(f"the schema's pattern {pattern!r} is invalid: {error}") from error


_Validator = extend(Draft202012Validator, {"pattern": _check_pattern})


def _is_valid(validator: Any, text: str) -> bool:
    try:
        validator.validate(json.loads(text))
    except (ValueError, RecursionError, ValidationError):
        return False
    except Unresolvable as error:
        raise ScoringError(f"the schema refers to {error.ref}, which it does not contain") from error
    return True


def _length(name: str, spec: str, argument: str | None) -> Scorer:
    found = _LENGTH.fullmatch(argument or "")
    if found is None or not any(found.groups()):
        raise ValueError("length needs a range of words, length=MIN..MAX, such as length=..80")
    low, high = int(found[1] or 0), int(found[2]) if found[2] else None
    return Scorer(
        name,
        spec,
        lambda answer, _: low <= len(answer.text.split()) and (high is None or len(answer.text.split()) <= high),
    )


def _forbidden_words(name: str, spec: str, argument: str | None) -> Scorer:
    words = [word.strip() for word in (argument or "").split(",") if word.strip()]
    if not words:
        raise ValueError("forbidden_words needs words: forbidden_words=WORD,WORD")
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)", re.IGNORECASE)
    return Scorer(name, spec, lambda answer, _: pattern.search(answer.text) is None)


def _similarity(name: str, spec: str, argument: str | None) -> Scorer:
    if argument is not None:
        raise ValueError("similarity takes no argument")
    return Scorer(
        name,
        spec,
        lambda answer, expected: measure_similarity(answer.text, str(expected[EXPECTED_RESPONSE])),
        EXPECTED_RESPONSE,
    )


def measure_similarity(text: str, other: str) -> float:
    """Return the share of words that two texts have in common and in the same order, ignoring case: 0 to 1.

    It is `2 * matching / all words`, like difflib's ratio: close to ROUGE-L, normalised by both texts, and without another
    dependency. In texts of thousands of words, passages without a word that is unique in both may count as different.
    """
    words, others = _normalize(text).casefold().split(), _normalize(other).casefold().split()
    return measure_overlap(words, others)


def _measurement(measure: Callable[[Answer], float | None], name: str, spec: str, argument: str | None) -> Scorer:
    if argument is not None:
        raise ValueError(f"{name} takes no argument")
    return Scorer(name, spec, lambda answer, _: measure(answer), is_measurement=True)


def _normalize(text: str) -> str:
    """Return `text` with single spaces between its words."""
    return " ".join(text.split())


_SIMILARITY = "similarity"
_KINDS: Final[Mapping[str, Callable[[str, str, str | None], Scorer]]] = {
    "exact_match": _exact_match,
    "contains": _contains,
    "regex": _regex,
    "json_schema": _json_schema,
    "length": _length,
    "forbidden_words": _forbidden_words,
    _SIMILARITY: _similarity,
    "latency": partial(_measurement, lambda answer: answer.timings.seconds if answer.timings else None),
    "first_token": partial(_measurement, lambda answer: answer.timings.time_to_first_token if answer.timings else None),
    "tokens_per_second": partial(
        _measurement, lambda answer: answer.timings.tokens_per_second if answer.timings else None
    ),
}

SCORER_KINDS: Final = tuple(_KINDS)
