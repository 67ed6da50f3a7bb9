"""Metrics of turns → the tables behind the plots, and the table of totals."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import pandas as pd
from markupsafe import Markup

from phi3_ui.i18n.translate import format_date, format_number, tr
from phi3_ui.store.conversations.history import TurnMetrics
from phi3_ui.ui.render.notices import render_hint
from phi3_ui.ui.render.templating import render

# As many as the narrow panel has room for; days count only if a question was asked.
_CHART_TURNS, _CHART_DAYS, _TABLE_DAYS = 20, 14, 7

_Key = TypeVar("_Key", str, date)


@dataclass(frozen=True)
class ChatFrames:
    """One chat, a row per turn and series; unknown values have no row."""

    tokens: pd.DataFrame
    """turn (from 1, as text), kind (prompt or completion, translated), tokens"""
    first: pd.DataFrame
    """turn, model, seconds to the first token"""
    rate: pd.DataFrame
    """turn, model, tokens per second"""


@dataclass(frozen=True)
class ModelFrames:
    """All chats."""

    tokens: pd.DataFrame
    """day (UTC, as the language writes it), model, tokens"""
    first: pd.DataFrame
    """model, median seconds to the first token"""
    rate: pd.DataFrame
    """model, median tokens per second"""


def chat_frames(language: str, metrics: Iterable[TurnMetrics], turn_ids: Sequence[str]) -> ChatFrames:
    """The last of the turns with these ids, numbered in this order; a turn without metrics has no row."""
    numbers = dict(list(zip(turn_ids, range(1, len(turn_ids) + 1), strict=True))[-_CHART_TURNS:])
    turns = sorted((turn for turn in metrics if turn.turn_id in numbers), key=lambda turn: numbers[turn.turn_id])
    names = _display_names(language, turns)
    prompt, completion = tr(language, "usage.of_prompt"), tr(language, "usage.of_answer")
    labels = [str(numbers[turn.turn_id]) for turn in turns]  # text, so that the axis has no 1.5
    tokens = [
        (label, kind, count)
        for label, turn in zip(labels, turns, strict=True)
        for kind, count in ((prompt, turn.prompt_tokens), (completion, turn.completion_tokens))
    ]
    named = [(label, names[_model_key(turn)], turn) for label, turn in zip(labels, turns, strict=True)]
    return ChatFrames(
        tokens=_frame(["turn", "kind", "tokens"], tokens),
        first=_frame(
            ["turn", "model", "seconds"], [(label, name, turn.time_to_first_token) for label, name, turn in named]
        ),
        rate=_frame(["turn", "model", "rate"], [(label, name, turn.tokens_per_second) for label, name, turn in named]),
    )


def model_frames(language: str, metrics: Sequence[TurnMetrics]) -> ModelFrames:
    """Compute the tables of all chats, for the last days with questions."""
    names = _display_names(language, metrics)
    named = [(names[_model_key(turn)], turn) for turn in metrics]
    by_day = _frame(["day", "model", "tokens"], [(_day(turn), name, _total_tokens(turn)) for name, turn in named])
    days = sorted(set(by_day["day"]))[-_CHART_DAYS:]
    tokens = by_day[by_day["day"].isin(days)].groupby(["day", "model"], as_index=False)["tokens"].sum()
    tokens["day"] = [format_date(language, day) for day in tokens["day"]]
    return ModelFrames(
        tokens=tokens,
        first=_medians("seconds", [(name, turn.time_to_first_token) for name, turn in named]),
        rate=_medians("rate", [(name, turn.tokens_per_second) for name, turn in named]),
    )


def render_totals(language: str, metrics: Sequence[TurnMetrics]) -> Markup:
    """Turns and tokens by model, by day (UTC) for the last days, and in total."""
    if not metrics:
        return render_hint(tr(language, "no_usage"))
    names = _display_names(language, metrics)
    by_model = _group(metrics, lambda turn: names[_model_key(turn)])
    last_days = sorted(_group(metrics, _day).items(), reverse=True)[:_TABLE_DAYS]
    by_day = {format_date(language, day): turns for day, turns in last_days}
    return render(
        "totals_table.html",
        language,
        columns=[tr(language, key) for key in ("usage.turns", "row.prompt", "row.completion")],
        groups=[
            (tr(language, "usage.models"), _total_rows(language, by_model)),
            (tr(language, "usage.days"), _total_rows(language, by_day)),
        ],
        total=_total_row(language, tr(language, "usage.all"), metrics),
    )


def _total_rows(language: str, groups: Mapping[str, Sequence[TurnMetrics]]) -> list[list[str]]:
    return [_total_row(language, name, turns) for name, turns in groups.items()]


def _total_row(language: str, name: str, turns: Sequence[TurnMetrics]) -> list[str]:
    """Name, number of turns, and the sums of the known token counts."""
    cells = [name, format_number(language, len(turns))]
    for counts in ([turn.prompt_tokens for turn in turns], [turn.completion_tokens for turn in turns]):
        known = [count for count in counts if count is not None]
        cells.append(format_number(language, sum(known)) if known else tr(language, "unknown"))
    return cells


def _group(turns: Iterable[TurnMetrics], key: Callable[[TurnMetrics], _Key]) -> dict[_Key, list[TurnMetrics]]:
    """By key, in the keys' order."""
    groups: dict[_Key, list[TurnMetrics]] = {}
    for turn in sorted(turns, key=key):
        groups.setdefault(key(turn), []).append(turn)
    return groups


def _frame(columns: list[str], rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Without the rows whose last column is unknown."""
    return pd.DataFrame([row for row in rows if row[-1] is not None], columns=columns)


def _medians(column: str, rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    return _frame(["model", column], rows).groupby("model", as_index=False)[column].median()


def _display_names(language: str, turns: Iterable[TurnMetrics]) -> dict[tuple[str, str], str]:
    """Each model's name, with the start of its id where several have the same name."""
    keys = {_model_key(turn) for turn in turns}
    counts = Counter(name for name, _ in keys)
    unknown = tr(language, "unknown")
    return {
        (name, id_): f"{name or unknown} ({id_[:8]})" if counts[name] > 1 else name or unknown for name, id_ in keys
    }


def _model_key(turn: TurnMetrics) -> tuple[str, str]:
    return turn.model, turn.model_id


def _day(turn: TurnMetrics) -> date:
    return datetime.fromtimestamp(turn.asked_at, UTC).date()


def _total_tokens(turn: TurnMetrics) -> int | None:
    if turn.prompt_tokens is None or turn.completion_tokens is None:
        return None
    return turn.prompt_tokens + turn.completion_tokens
