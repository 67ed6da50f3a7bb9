"""The leaderboard of the votes in a store, of all or of those that a filter keeps."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from phi3_ui.arena.ratings import Leaderboard, rate
from phi3_ui.arena.rounds import count_votes
from phi3_ui.chat.comparison import Exclusion
from phi3_ui.store.conversations.votes import StoredVote


@dataclass(frozen=True)
class VoteFilter:
    """Which votes count. None stands for all."""

    voters: Collection[str] | None = None
    since: float | None = None
    """Seconds since 1970, UTC; included."""
    until: float | None = None
    """Not included."""

    def keeps(self, vote: StoredVote) -> bool:
        """Whether a vote counts."""
        return (
            (self.voters is None or vote.voter in self.voters)
            and (self.since is None or vote.voted_at >= self.since)
            and (self.until is None or vote.voted_at < self.until)
        )


@dataclass(frozen=True)
class Board:
    """A leaderboard and where it comes from."""

    leaderboard: Leaderboard
    rounds: int
    """How many rounds it counts."""
    excluded: Mapping[Exclusion, int]
    """How many rounds it does not, by reason."""


def build_board(
    votes: Sequence[StoredVote], name_model: Callable[[str], str] = str, vote_filter: VoteFilter = VoteFilter()
) -> Board:
    """Rate the models of the votes that the filter keeps.

    Args:
        votes: Of a store.
        name_model: Who a model, given by its id, stands for: models with one name are one contestant, such as the versions of a
            registered model. By default each stands for itself.
        vote_filter: By default, every vote counts.
    """
    kept = list(filter(vote_filter.keeps, votes))
    counted = [vote for vote in kept if vote.exclusion is None]
    pairs = [pair for vote in counted for pair in count_votes(tuple(map(name_model, vote.model_ids)), vote.preference)]
    return Board(rate(pairs), len(counted), Counter(vote.exclusion for vote in kept if vote.exclusion))
