"""Everybody's votes on the rounds of comparisons, read back from the traces."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast, get_args

from mlflow import MlflowClient
from mlflow.entities import Trace, TraceInfo

from phi3_ui.chat.comparison import Exclusion, Preference
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.trace_reader import find_preference
from phi3_ui.store.conversations.trace_search import LARGEST_PAGE
from phi3_ui.store.conversations.traces import (
    COMPARED_KEY,
    EXCLUSION_KEY,
    MODEL_ID_KEY,
    PLACE_KEY,
    PLACES_KEY,
    ROUND_KEY,
    RUN_MODEL_KEY,
    USER_KEY,
)
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.query import metadata_filter, paginate

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredVote:
    """A vote on one round."""

    round_id: str
    voter: str
    """The id of the person."""
    voted_at: float
    """Seconds since 1970, UTC."""
    model_ids: tuple[str, ...]
    """Who answered, from left to right."""
    preference: Preference
    exclusion: Exclusion | None
    """Why it does not count for ratings; None if it does."""
    reason: str


class VoteReader:
    """Reads the votes of one store."""

    def __init__(self, locate: Callable[[], ChatLocation]) -> None:
        """`locate` is as that of the recorder."""
        self._locate = locate

    def list_votes(self) -> list[StoredVote]:
        """All votes, the newest round first. Damaged ones are left out and logged. UserError: store_unreachable."""
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
            if vote := _parse_vote(round_id, answers):
                yield vote
        except (ValueError, KeyError) as error:
            logger.warning("The vote on round %s is damaged: %s", round_id, error)


def _parse_vote(round_id: str, infos: list[TraceInfo]) -> StoredVote | None:
    found = [assessment for info in infos if (assessment := find_preference(info)) and assessment.feedback]
    exclusion = (found[0].metadata or {}).get(EXCLUSION_KEY) if found else None
    if exclusion == "unfinished":
        return None  # nothing can be learned from it, and answers may be missing
    places = {int(info.trace_metadata[PLACE_KEY]): info for info in infos}
    if sorted(places) != list(range(int(infos[0].trace_metadata[PLACES_KEY]))) or len(places) != len(infos):
        raise ValueError(f"it has the places {sorted(places)}")
    answers = [places[place] for place in sorted(places)]
    found = [assessment for info in answers if (assessment := find_preference(info)) and assessment.feedback]
    if len(found) < len(answers):
        return None  # it is being written
    if exclusion not in (None, *get_args(Exclusion)):
        raise ValueError(f"it does not count because of {exclusion!r}")
    return StoredVote(
        round_id,
        answers[0].trace_metadata[USER_KEY],
        (found[0].create_time_ms or 0) / 1000,
        tuple(_model_id(info) for info in answers),
        _parse_preference([str(one.feedback.value) for one in found if one.feedback]),
        cast("Exclusion | None", exclusion),
        found[0].rationale or "",
    )


def _model_id(info: TraceInfo) -> str:
    metadata = info.trace_metadata
    return str(metadata.get(MODEL_ID_KEY) or metadata[RUN_MODEL_KEY])


def _parse_preference(values: list[str]) -> Preference:
    """Parse the preference from the value of each answer's assessment, from left to right. ValueError if they contradict."""
    if set(values) == {"tie"}:
        return "tie"
    if set(values) == {"both_bad"}:
        return "both_bad"
    if sorted(values) != ["lost"] * (len(values) - 1) + ["won"]:
        raise ValueError(f"it says {values}")
    return values.index("won")
