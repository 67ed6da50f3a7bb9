"""The leaderboard computed from all votes, or from those that a filter keeps."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from phi3_ui.arena.ratings import Leaderboard, rate
from phi3_ui.arena.rounds import count_votes
from phi3_ui.chat.comparison import Exclusion
from phi3_ui.store.conversations.summaries import TurnMetrics
from phi3_ui.store.conversations.votes import StoredVote


@dataclass(frozen=True)
class VoteFilter:
    """Which votes count. None means no restriction."""

    voters: Collection[str] | None = None
    since: float | None = None
    """Seconds since 1970, UTC; inclusive."""
    until: float | None = None
    """Exclusive."""
    questions: Collection[str] | None = None
    """For instance those of a prompt set."""

    def keeps(self, vote: StoredVote) -> bool:
        """Whether the filter keeps a vote."""
        return (
            (self.voters is None or vote.voter in self.voters)
            and (self.since is None or vote.voted_at >= self.since)
            and (self.until is None or vote.voted_at < self.until)
            and (self.questions is None or vote.question in self.questions)
        )


@dataclass(frozen=True)
class Speed:
    """Medians over a contestant's answers. None means unknown."""

    tokens_per_second: float | None
    time_to_first_token: float | None
    """Seconds."""


@dataclass(frozen=True)
class Board:
    """A leaderboard and the data behind it."""

    leaderboard: Leaderboard
    rounds: int
    """Number of rounds counted."""
    excluded: Mapping[Exclusion, int]
    """Number of rounds not counted, by reason."""
    speeds: Mapping[str, Speed]
    """By contestant, over the answers of the counted rounds."""


def build_board(
    votes: Sequence[StoredVote], name_model: Callable[[str], str] = str, vote_filter: VoteFilter = VoteFilter()
) -> Board:
    """Rate the models in the votes that the filter keeps.

    Args:
        votes: The votes in a store.
        name_model: Maps the id of a model to the name of its contestant; models with the same name are one contestant, such as
            the versions of a registered model. By default each model is its own contestant.
        vote_filter: Which votes count; by default all.
    """
    kept = list(filter(vote_filter.keeps, votes))
    counted = [vote for vote in kept if vote.exclusion is None]
    pairs = [pair for vote in counted for pair in count_votes(tuple(map(name_model, vote.model_ids)), vote.preference)]
    answers = dict[str, list[TurnMetrics]]()
    for vote in counted:
        for answer in vote.answers:
            answers.setdefault(name_model(answer.model_id), []).append(answer)
    return Board(
        rate(pairs),
        len(counted),
        Counter(vote.exclusion for vote in kept if vote.exclusion),
        {contestant: _measure(given) for contestant, given in answers.items()},
    )


def _measure(answers: Sequence[TurnMetrics]) -> Speed:
    return Speed(
        _median([answer.tokens_per_second for answer in answers]),
        _median([answer.time_to_first_token for answer in answers]),
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
