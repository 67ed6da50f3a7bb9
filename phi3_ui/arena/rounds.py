"""One question to several contestants at once: their positions, and whether a vote on the answers counts for ratings."""

import itertools
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from phi3_ui.arena.votes import Outcome, Vote
from phi3_ui.chat.comparison import Exclusion, Preference
from phi3_ui.chat.conversation import Answer
from phi3_ui.store.conversations.search_text import fold_text

_WORD = re.compile(r"[^\W\d_]+\d*|\d+")
_MIN_LETTERS = 3
_GENERIC = frozenset(
    [
        "base",
        "chat",
        "cpu",
        "cuda",
        "demo",
        "fast",
        "fine",
        "float",
        "large",
        "latest",
        "long",
        "medium",
        "mini",
        "model",
        "new",
        "old",
        "pipeline",
        "quantized",
        "small",
        "test",
        "text",
        "the",
        "tiny",
        "tuned",
        "v1",
        "v2",
        "v3",
        "version",
        "wrapper",
        "instruct",
    ]
)
"""Words in the names of models that do not identify a model."""


@dataclass(frozen=True)
class Round:
    """A question with the answer of each contestant."""

    question: str
    places: tuple[str, ...]
    """The contestants' keys from left to right; drawn at random for each round."""
    answers: Mapping[str, Answer]
    """By contestant; answers in progress are absent."""
    names: Mapping[str, tuple[str, ...]]
    """The names that the model is known by, by contestant."""


def draw_places(contestants: Sequence[str], rng: random.Random | None = None) -> tuple[str, ...]:
    """Return the contestants in random order, by default from the operating system's unpredictable random generator."""
    return tuple((rng or random.SystemRandom()).sample(contestants, len(contestants)))


def find_exclusion(round_: Round) -> Exclusion | None:
    """Return the reason why votes on this round do not count for ratings; None if they do."""
    for contestant in round_.places:
        answer = round_.answers.get(contestant)
        if answer is None:
            return "unfinished"
        if answer.error:
            return "failed"
        if answer.finish_reason == "cancelled":
            return "stopped"
        if answer.finish_reason != "stop":
            return "cut"
        if _names_model(answer.text, round_.question, round_.names.get(contestant, ())):
            return "names_model"
    return None


def count_votes(contestants: tuple[str, ...], preference: Preference) -> list[Vote]:
    """Convert a user's preference among answers, given from left to right, to votes on pairs of contestants.

    The best answer beats each of the others, which are not compared with each other. If all answers are equally good or bad,
    every pair is tied.

    Raises:
        ValueError: There is no such position.
    """
    if isinstance(preference, str):
        return [Vote(left, right, preference) for left, right in itertools.combinations(contestants, 2)]
    if preference not in range(len(contestants)):
        raise ValueError(f"there is no position {preference}")
    return [_build_vote(contestants, preference, other) for other in range(len(contestants)) if other != preference]


def _build_vote(places: tuple[str, ...], best: int, other: int) -> Vote:
    outcome: Outcome = "left" if best < other else "right"
    return Vote(places[min(best, other)], places[max(best, other)], outcome)


def _names_model(text: str, question: str, names: Sequence[str]) -> bool:
    """Whether a text contains a word of its model's names that is not in the question, ignoring words that many names share."""
    identifying = {word for name in names for word in _split(name)} - set(_split(question))
    return not identifying.isdisjoint(_split(text))


def _split(text: str) -> list[str]:
    """Return the case-folded words of a text that may identify a model; for a word with digits, such as "phi3", also its letters."""
    words = _WORD.findall(fold_text(text))
    words += [word.rstrip("0123456789") for word in words]
    return [word for word in words if len(word) >= _MIN_LETTERS and not word.isdigit() and word not in _GENERIC]
