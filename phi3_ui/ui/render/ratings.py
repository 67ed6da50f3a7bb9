"""Ratings: the leaderboard with its intervals, who beats whom, whether position matters, and the rounds behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, floor

from markupsafe import Markup

from phi3_ui.arena.board import Board
from phi3_ui.arena.ratings import MAX_WIDTH, MIN_VOTES, Rating, Share
from phi3_ui.i18n.translate import (
    format_bytes,
    format_datetime,
    format_number,
    format_percent,
    format_rate,
    format_seconds,
    tr,
)
from phi3_ui.store.conversations.votes import StoredVote
from phi3_ui.ui.render.mlflow_links import Link
from phi3_ui.ui.render.templating import render

_SCALE_STEP = 50  # rating points; the ends of the scale are rounded to multiples of it


@dataclass(frozen=True)
class Contestant:
    """The contestant of a row of the leaderboard."""

    name: str
    detail: str
    """What distinguishes it from others: versions and aliases, or the engine."""


@dataclass(frozen=True)
class Filter:
    """A choice of what the view shows."""

    name: str
    """Name of the action that a change performs."""
    label: str
    options: Sequence[tuple[str, str]]
    """Value and label."""
    selected: str


@dataclass(frozen=True)
class RatedRound:
    """A round behind the leaderboard."""

    vote: StoredVote
    contestants: tuple[str, ...]
    """Keys of `RatingsView.contestants`, from left to right."""
    links: tuple[Link | None, ...]
    """Links to the traces of the answers, from left to right."""
    is_own: bool
    """Whether its comparison can be opened."""


@dataclass(frozen=True)
class RatingsView:
    """The data of the view."""

    filters: Sequence[Filter]
    board: Board
    contestants: Mapping[str, Contestant]
    memory: Mapping[str, int]
    """Bytes by contestant; unknown for models that are not loaded."""
    rounds: Sequence[RatedRound]
    pair: tuple[str, str] | None
    """The contestants whose rounds are listed; None: all rounds are listed."""
    notes: Sequence[str]
    """Notes on the list of rounds."""
    evaluations_off: str = ""
    """Why the evaluations cannot be opened; empty if they can."""


def render_ratings(language: str, view: RatingsView) -> Markup:
    """Render the view."""
    board = view.board
    ratings = board.leaderboard.ratings
    keys = [one.contestant for one in ratings]
    scale = _Scale.of(ratings)
    return render(
        "ratings.html",
        language,
        filters=view.filters,
        summary=_summarize(language, board),
        rows=[_describe_row(language, view, one, scale) for one in ratings],
        ticks=[(scale.place(tick), format_number(language, tick)) for tick in scale.ticks],
        about=tr(language, "ratings.about", votes=MIN_VOTES, width=int(MAX_WIDTH)),
        names=[view.contestants[key].name for key in keys],
        matrix=[[_describe_cell(language, view, row, column) for column in keys] for row in keys],
        position=_describe_position(language, board.leaderboard.left_wins),
        rounds_title=_name_rounds(language, view),
        is_filtered=view.pair is not None,
        rounds=[_describe_round(language, view, one) for one in view.rounds],
        notes=view.notes,
        evaluations_off=view.evaluations_off,
    )


@dataclass(frozen=True)
class _Scale:
    """The axis of the intervals."""

    low: float
    high: float

    @classmethod
    def of(cls, ratings: Sequence[Rating]) -> "_Scale":
        ranked = [one for one in ratings if one.rank is not None]
        low = min((one.low for one in ranked), default=950.0)
        high = max((one.high for one in ranked), default=1050.0)
        return cls(floor(low / _SCALE_STEP) * _SCALE_STEP, ceil(high / _SCALE_STEP) * _SCALE_STEP)

    @property
    def ticks(self) -> tuple[float, float, float]:
        return self.low, (self.low + self.high) / 2, self.high

    def place(self, value: float) -> str:
        """Return the position of a rating on the axis, as a CSS length."""
        return f"{(value - self.low) / (self.high - self.low):.2%}"


def _summarize(language: str, board: Board) -> str:
    counted = tr(language, "ratings.rounds.counted", count=board.rounds)
    if not board.excluded:
        return counted
    reasons = [tr(language, f"ratings.excluded.{one}", count=count) for one, count in sorted(board.excluded.items())]
    left_out = sum(board.excluded.values())
    return f"{counted} {tr(language, 'ratings.rounds.excluded', count=left_out, reasons=', '.join(reasons))}"


def _describe_row(language: str, view: RatingsView, rating: Rating, scale: _Scale) -> dict[str, object]:
    contestant, speed = view.contestants[rating.contestant], view.board.speeds.get(rating.contestant)
    rate, first = (speed.tokens_per_second, speed.time_to_first_token) if speed else (None, None)
    size = view.memory.get(rating.contestant)
    low, high = (format_number(language, value) for value in (rating.low, rating.high))
    return {
        "name": contestant.name,
        "detail": contestant.detail,
        "rank": None if rating.rank is None else format_number(language, rating.rank),
        "rating": format_number(language, rating.rating),
        "between": tr(language, "ratings.between", low=low, high=high),
        "at": scale.place(rating.rating),
        "from": scale.place(rating.low),
        "width": f"{(rating.high - rating.low) / (scale.high - scale.low):.2%}",
        "votes": format_number(language, rating.votes),
        "rate": None if rate is None else format_rate(language, rate),
        "first": None if first is None else format_seconds(language, first),
        "memory": None if size is None else format_bytes(language, size),
    }


def _describe_cell(language: str, view: RatingsView, row: str, column: str) -> dict[str, object] | None:
    """Describe how often a row's model won against a column's; None if they never met."""
    wins = view.board.leaderboard.wins
    won, lost = wins.get((row, column), 0.0), wins.get((column, row), 0.0)
    if row == column or not won + lost:
        return None
    share, count = format_percent(language, won / (won + lost)), int(won + lost)
    names = {"row": view.contestants[row].name, "column": view.contestants[column].name}
    return {
        "value": f"{_index(view, row)}-{_index(view, column)}",
        "share": share,
        "count": format_number(language, count),
        "tint": f"{won / (won + lost):.0%}",
        "title": tr(language, "ratings.matrix.cell", share=share, count=count, **names),
        "is_selected": view.pair == (row, column),
    }


def _index(view: RatingsView, key: str) -> int:
    return next(place for place, one in enumerate(view.board.leaderboard.ratings) if one.contestant == key)


def _describe_position(language: str, share: Share) -> dict[str, object]:
    if share.share is None:
        return {"text": tr(language, "ratings.position.none"), "at": ""}
    low, middle, high = (format_percent(language, value) for value in (share.low, share.share, share.high))
    is_fair = share.low <= 0.5 <= share.high
    said = tr(language, "ratings.position.share", share=middle, count=share.count, low=low, high=high)
    return {
        "text": f"{said} {tr(language, 'ratings.position.fair' if is_fair else 'ratings.position.biased')}",
        "at": f"{share.share:.2%}",
        "from": f"{share.low:.2%}",
        "width": f"{share.high - share.low:.2%}",
        "ticks": [(f"{tick:.0%}", format_percent(language, tick)) for tick in (0.0, 0.5, 1.0)],
    }


def _name_rounds(language: str, view: RatingsView) -> str:
    if view.pair is None:
        return tr(language, "ratings.rounds")
    one, other = (view.contestants[key].name for key in view.pair)
    return tr(language, "ratings.rounds.pair", one=one, other=other)


def _describe_round(language: str, view: RatingsView, one: RatedRound) -> dict[str, object]:
    vote = one.vote
    outcome = "" if isinstance(vote.preference, int) else tr(language, f"ratings.round.{vote.preference}")
    excluded = tr(language, f"compare.excluded.{vote.exclusion}") if vote.exclusion else ""
    return {
        "chat": vote.answers[0].conversation_id if one.is_own else "",
        "question": vote.question,
        "when": format_datetime(language, datetime.fromtimestamp(vote.voted_at, UTC).astimezone()),
        "outcome": outcome,
        "excluded": excluded,
        "reason": vote.reason,
        "answers": [
            {"name": view.contestants[key].name, "is_best": vote.preference == place, "link": link}
            for place, (key, link) in enumerate(zip(one.contestants, one.links, strict=True))
        ],
    }
