"""Users' votes on the rounds of comparisons, assembled from the verdicts stored with each answer."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import get_args

from mlflow import MlflowClient
from mlflow.entities import Trace, TraceInfo

from phi3_ui.chat.comparison import Exclusion, Preference, Standing, Verdict
from phi3_ui.errors import UserError
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.summaries import TurnMetrics, TurnSummary
from phi3_ui.store.conversations.trace_reader import find_preference, parse_summary, parse_verdict
from phi3_ui.store.conversations.trace_search import LARGEST_PAGE
from phi3_ui.store.conversations.traces import COMPARED_KEY, EXCLUSION_KEY, PREVIEW_CHARS, ROUND_KEY, USER_KEY
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.query import metadata_filter, paginate

logger = logging.getLogger(__name__)

_MAX_AGE = 4.0  # seconds after which the votes on recent rounds are read again
_ALL_MAX_AGE = 300.0  # seconds after which all votes are read again
_RECENT = 3600.0  # seconds before the last read
_RECENT_PAGE = 50  # traces

RoundAnswers = Sequence[tuple[TurnSummary, Verdict | None]]
"""The answers of a round in any order, each with its verdict; None: no vote yet."""


@dataclass(frozen=True)
class StoredVote:
    """A vote on one round."""

    round_id: str
    voter: str
    """The visitor id of the user."""
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
        """The ids of the models that answered, from left to right."""
        return tuple(answer.model_id for answer in self.answers)


class VoteReader:
    """Reads all users' votes of one store: all of them once, then those on recent rounds, and sometimes all in the background.

    MLflow cannot list new assessments. A vote is final, so votes once read stay valid; late votes on old rounds, and deleted
    chats, are found by the background reads. Thread-safe: one thread reads, the others wait for it.
    """

    def __init__(self, locate: Callable[[], ChatLocation]) -> None:
        """`locate`: see Recorder."""
        self._locate = locate
        self._lock = threading.Lock()
        self._votes: dict[str, StoredVote] = {}  # by round
        self._since = 0.0  # seconds since 1970; rounds asked before it have been read
        self._read_at = self._all_read_at = float("-inf")  # of time.monotonic()
        self._background: threading.Thread | None = None

    def list_votes(self) -> list[StoredVote]:
        """Return all votes, newest first: at most a few seconds old, and on rounds older than an hour at most some minutes old.

        Damaged ones are omitted and logged.

        Raises:
            UserError: store_unreachable.
        """
        with self._lock:
            now, time_now = time.monotonic(), time.time()
            if now - self._read_at > _MAX_AGE:
                is_first = not self._votes
                self._votes |= self._read(0.0 if is_first else self._since)
                self._read_at, self._since = now, time_now - _RECENT
                if is_first:
                    self._all_read_at = now
                elif now - self._all_read_at > _ALL_MAX_AGE and self._background is None:
                    self._background = threading.Thread(target=self._read_all, name="votes", daemon=True)
                    self._background.start()
            return sorted(self._votes.values(), key=lambda vote: vote.voted_at, reverse=True)

    def _read_all(self) -> None:
        began, time_began = time.monotonic(), time.time()
        votes: dict[str, StoredVote] | None = None
        try:
            votes = self._read(0.0)
        except UserError as error:
            logger.info("Could not refresh the votes: %s", error)
        finally:
            with self._lock:
                self._background = None
                if votes is not None:
                    self._votes, self._since = votes, time_began - _RECENT
                    self._read_at, self._all_read_at = began, began

    def _read(self, since: float) -> dict[str, StoredVote]:
        """Return the votes by round, except on rounds that were asked before `since`."""
        location = self._locate()
        with translate_store_errors(location.tracking_uri):
            traces: Iterator[Trace] = paginate(
                MlflowClient(location.tracking_uri).search_traces,
                locations=[location.experiment_id],
                filter_string=metadata_filter({COMPARED_KEY: "true"}),
                max_results=LARGEST_PAGE if not since else _RECENT_PAGE,
                order_by=["timestamp_ms DESC"],
                include_spans=False,
            )
            recent = takewhile(lambda info: info.timestamp_ms >= since * 1000, (trace.info for trace in traces))
            return {vote.round_id: vote for vote in parse_votes(recent)}


def parse_votes(infos: Iterable[TraceInfo]) -> Iterator[StoredVote]:
    """Yield the votes in the traces of rounds. A round counts as voted once every answer has a verdict."""
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
    """Assemble the vote on a round.

    Returns:
        None if there is no vote, it is still being written, or it is meaningless because a side did not answer.

    Raises:
        ValueError: The vote is damaged. str() describes the damage.
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
        raise ValueError(f"its exclusion is invalid: {exclusion!r}")
    if (turn := parse_summary(info)) is None:
        raise ValueError("this app did not write one of its answers")
    return turn, parse_verdict(info)


def _parse_preference(standings: list[Standing]) -> Preference:
    """Return the preference that the standings, from left to right, add up to. Raise ValueError if they contradict each other."""
    if set(standings) == {"tie"}:
        return "tie"
    if set(standings) == {"both_bad"}:
        return "both_bad"
    if sorted(standings) != ["lost"] * (len(standings) - 1) + ["won"]:
        raise ValueError(f"its verdicts are {standings}")
    return standings.index("won")
