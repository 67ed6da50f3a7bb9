"""A round of a comparison: one question to several models. The turns of a round are variants of each other in one conversation."""

from dataclasses import dataclass
from typing import Literal

Preference = int | Literal["tie", "both_bad"]
"""What a person votes: the place of the best answer, counted from 0 at the left, or that none is better."""

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
