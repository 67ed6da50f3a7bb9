"""People's votes on the rounds of comparisons, put together from what is known of each answer."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from mlflow import MlflowClient
from mlflow.entities import Trace, TraceInfo

from phi3_ui.chat.comparison import Exclusion, Preference, Standing, Verdict
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.summaries import TurnMetrics, TurnSummary
from phi3_ui.store.conversations.trace_reader import find_preference, parse_summary, parse_verdict
from phi3_ui.store.conversations.trace_search import LARGEST_PAGE
from phi3_ui.store.conversations.traces import COMPARED_KEY, EXCLUSION_KEY, PREVIEW_CHARS, ROUND_KEY, USER_KEY
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.query import metadata_filter, paginate

logger = logging.getLogger(__name__)

_MAX_AGE = 10.0  # seconds; an older list is read from the store again

RoundAnswers = Sequence[tuple[TurnSummary, Verdict | None]]
"""The answers of a round in any order, with what the vote says of each; None: nothing yet."""


@dataclass(frozen=True)
class StoredVote:
    """A vote on one round."""

    round_id: str
    voter: str
    """The id of the person."""
    voted_at: float
    """Seconds since 1970, UTC."""
    question: str
    """Its first PREVIEW_CHARS characters."""
    answers: tuple[TurnMetrics, ...]
    """From left to right."""
    preference: Preference
    exclusion: Exclusion | None
    """Why it does not count for ratings; None if it does."""
    reason: str

    @property
    def model_ids(self) -> tuple[str, ...]:
        """Who answered, from left to right."""
        return tuple(answer.model_id for answer in self.answers)


class VoteReader:
    """Reads everybody's votes of one store. Thread-safe: one thread reads, the others wait for it."""

    def __init__(self, locate: Callable[[], ChatLocation]) -> None:
        """`locate` is as that of the recorder."""
        self._locate = locate
        self._lock = threading.Lock()
        self._votes: list[StoredVote] = []
        self._read_at = float("-inf")  # of time.monotonic()

    def list_votes(self) -> list[StoredVote]:
        """All votes as of a few seconds ago, the newest round first. Damaged ones are left out and logged.

        Raises:
            UserError: store_unreachable.
        """
        with self._lock:
            if time.monotonic() - self._read_at > _MAX_AGE:
                self._votes = self._read()
                self._read_at = time.monotonic()
            return self._votes

    def _read(self) -> list[StoredVote]:
        location = self._locate()
        with translate_store_errors(location.tracking_uri):
            traces: Iterator[Trace] = paginate(
                MlflowClient(location.tracking_uri).search_traces,
                locations=[location.experiment_id],
                filter_string=metadata_filter({COMPARED_KEY: "true"}),
                max_results=LARGEST_PAGE,
                order_by=["timestamp_ms DESC"],
                include_spans=False,
            )
            return list(parse_votes(trace.info for trace in traces))


def parse_votes(infos: Iterable[TraceInfo]) -> Iterator[StoredVote]:
    """The votes that the traces of rounds hold. A round without a vote on each answer has none yet."""
    rounds = dict[str, list[TraceInfo]]()
    for info in infos:
        rounds.setdefault((info.trace_metadata or {}).get(ROUND_KEY, ""), []).append(info)
    for round_id, answers in rounds.items():
        if not any(map(find_preference, answers)):
            continue
        try:
            voters = {info.trace_metadata[USER_KEY] for info in answers}
            if vote := build_vote(voters.pop(), list(map(_parse_answer, answers))):
                yield vote
        except (ValueError, KeyError) as error:
            logger.warning("The vote on round %s is damaged: %s", round_id, error)


def build_vote(voter: str, answers: RoundAnswers) -> StoredVote | None:
    """Put a vote together.

    Returns:
        None if there is none, it is still being written, or nothing can be learned from it: a side has not answered.

    Raises:
        ValueError: It is damaged. str() says in which way.
    """
    verdicts = [verdict for _, verdict in answers if verdict]
    if not verdicts or verdicts[0].exclusion == "unfinished":
        return None
    found = {turn.round.place: (turn, verdict) for turn, verdict in answers if turn.round}
    first = next((turn.round for turn, _ in answers if turn.round), None)
    if first is None or sorted(found) != list(range(first.places)) or len(found) != len(answers):
        raise ValueError(f"it has the places {sorted(found)}")
    if len(verdicts) < len(answers):
        return None
    placed = [found[place] for place in sorted(found)]
    return StoredVote(
        first.round_id,
        voter,
        verdicts[0].voted_at,
        placed[0][0].question[:PREVIEW_CHARS],
        tuple(turn.metrics for turn, _ in placed),
        _parse_preference([verdict.standing for _, verdict in placed if verdict]),
        verdicts[0].exclusion,
        verdicts[0].reason,
    )


def _parse_answer(info: TraceInfo) -> tuple[TurnSummary, Verdict | None]:
    given = find_preference(info)
    exclusion = (given.metadata or {}).get(EXCLUSION_KEY) if given else None
    if exclusion not in (None, *get_args(Exclusion)):
        raise ValueError(f"it does not count because of {exclusion!r}")
    if (turn := parse_summary(info)) is None:
        raise ValueError("one of its answers is of another writer")
    return turn, parse_verdict(info)


def _parse_preference(standings: list[Standing]) -> Preference:
    """The preference that answers stand for, from left to right. ValueError if they contradict one another."""
    if set(standings) == {"tie"}:
        return "tie"
    if set(standings) == {"both_bad"}:
        return "both_bad"
    if sorted(standings) != ["lost"] * (len(standings) - 1) + ["won"]:
        raise ValueError(f"it says {standings}")
    return standings.index("won")
