"""A vote on a round, as data."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["left", "right", "tie", "both_bad"]
"""Which of the two answers is better: the one shown on the left or the one on the right; or both are equally good, or bad."""


@dataclass(frozen=True)
class Vote:
    """One person's vote on two answers to the same question."""

    left: str
    """Who gave the answer on the left: a key that stays the same from vote to vote, such as a model's id."""
    right: str
    outcome: Outcome
