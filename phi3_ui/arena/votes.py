"""A vote on a round, as data."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["left", "right", "tie", "both_bad"]
"""Which of two answers is better: the one shown on the left or on the right; or whether both are equally good, or bad."""


@dataclass(frozen=True)
class Vote:
    """One user's vote on two answers to the same question."""

    left: str
    """The contestant on the left: a key that is the same in every vote, such as a model's id."""
    right: str
    outcome: Outcome
