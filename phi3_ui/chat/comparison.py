"""A round of a comparison: one question to several models. The turns of a round are variants of each other in one conversation."""

from dataclasses import dataclass
from typing import Literal

Preference = int | Literal["tie", "both_bad"]
"""A user's vote: the place of the best answer, counted from 0 on the left, or that none is better."""

Standing = Literal["won", "lost", "tie", "both_bad"]
"""The outcome of a vote for one answer."""

Exclusion = Literal["unfinished", "failed", "stopped", "cut", "names_model"]
"""Why a round does not count: an answer is missing, ended in an error, was stopped, was cut at a limit, or reveals its model."""


@dataclass(frozen=True)
class RoundPlace:
    """The place of one turn in its round."""

    round_id: str
    """Shared by the turns of the round."""
    place: int
    """The position from the left, counted from 0."""
    places: int
    """The number of answers in the round."""
    is_blind: bool
    """Whether the models' names are hidden until the vote."""


@dataclass(frozen=True)
class Verdict:
    """The result of a user's vote for one answer of the round."""

    standing: Standing
    exclusion: Exclusion | None = None
    """Why the round does not count for ratings; None if it does."""
    reason: str = ""
    """The user's reason, in their own words."""
    voted_at: float = 0.0
    """Seconds since 1970, UTC."""


def find_standing(preference: Preference, place: int) -> Standing:
    """Return the outcome of a preference for the answer at one place."""
    if isinstance(preference, str):
        return preference
    return "won" if preference == place else "lost"
