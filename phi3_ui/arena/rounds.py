"""One question to several contestants at once: who stands where, and whether a vote on the answers counts for ratings."""

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
"""Words of models' names that tell nothing about which one it is."""


@dataclass(frozen=True)
class Round:
    """A question, and what each contestant answered."""

    question: str
    places: tuple[str, ...]
    """The contestants' keys, from left to right; drawn anew for each round."""
    answers: Mapping[str, Answer]
    """By contestant; without those under way."""
    names: Mapping[str, tuple[str, ...]]
    """By contestant: the names that its model is known by."""


def draw_places(contestants: Sequence[str], rng: random.Random | None = None) -> tuple[str, ...]:
    """The contestants in random order. By default from the operating system's randomness, which nobody can predict."""
    return tuple((rng or random.SystemRandom()).sample(contestants, len(contestants)))


def find_exclusion(round_: Round) -> Exclusion | None:
    """Why votes on this round do not count for ratings; None if they do."""
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
    """A person's preference among answers, from left to right, as votes on pairs of contestants.

    The best answer beats each other one; of those, nothing is known. A tie, or only bad answers, is one between all pairs.

    Raises:
        ValueError: There is no such place.
    """
    if isinstance(preference, str):
        return [Vote(left, right, preference) for left, right in itertools.combinations(contestants, 2)]
    if preference not in range(len(contestants)):
        raise ValueError(f"there is no place {preference}")
    return [_won_by(contestants, preference, other) for other in range(len(contestants)) if other != preference]


def _won_by(places: tuple[str, ...], best: int, other: int) -> Vote:
    outcome: Outcome = "left" if best < other else "right"
    return Vote(places[min(best, other)], places[max(best, other)], outcome)


def _names_model(text: str, question: str, names: Sequence[str]) -> bool:
    """Whether a text has a word of its model's names that the question has not, apart from words that many names share."""
    telling = {word for name in names for word in _split(name)} - set(_split(question))
    return not telling.isdisjoint(_split(text))


def _split(text: str) -> list[str]:
    """The words of a text that may tell a name, folded; of one with a number, such as "phi3", also its letters."""
    words = _WORD.findall(fold_text(text))
    words += [word.rstrip("0123456789") for word in words]
    return [word for word in words if len(word) >= _MIN_LETTERS and not word.isdigit() and word not in _GENERIC]
