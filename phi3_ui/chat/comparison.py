"""A round of a comparison: one question to several models. The turns of a round are variants of each other in one conversation."""

from dataclasses import dataclass
from typing import Literal

Preference = int | Literal["tie", "both_bad"]
"""What a person votes: the place of the best answer, counted from 0 at the left, or that none is better."""

Standing = Literal["won", "lost", "tie", "both_bad"]
"""What a vote says of one answer."""

Exclusion = Literal["unfinished", "failed", "stopped", "cut", "names_model"]
"""Why a round does not count: an answer is missing, ended in an error, was stopped, was cut at a limit, or tells who gave it."""


@dataclass(frozen=True)
class RoundPlace:
    """Where one turn stands in its round."""

    round_id: str
    """Shared by the turns of the round."""
    place: int
    """From the left, counted from 0."""
    places: int
    """How many answers the round has."""
    is_blind: bool
    """Whether the models' names are hidden until the vote."""


@dataclass(frozen=True)
class Verdict:
    """What a person's vote on its round says of one answer."""

    standing: Standing
    exclusion: Exclusion | None = None
    """Why the round does not count for ratings; None if it does."""
    reason: str = ""
    """The person's, in their words."""
    voted_at: float = 0.0
    """Seconds since 1970, UTC."""


def find_standing(preference: Preference, place: int) -> Standing:
    """What a preference says of the answer at one place."""
    if isinstance(preference, str):
        return preference
    return "won" if preference == place else "lost"
