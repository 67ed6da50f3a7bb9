"""Figures of turns → the tables that plots and the totals are drawn from. Pure; values in HTML are escaped here."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any

import pandas as pd

from phi3_ui.i18n.translate import tr
from phi3_ui.store.conversations.history import TurnMetrics

# As many of the last ones as the narrow panel has room for; days are those on which something was asked.
_CHART_TURNS, _CHART_DAYS, _TABLE_DAYS = 20, 14, 7


@dataclass(frozen=True)
class ChatFrames:
    """One chat, a row per turn and series; what is unknown has no row.

    `tokens`: turn (from 1, as text), kind (of the prompt or of the completion, in words), tokens. `first`: turn, model, seconds to the first token.
    `rate`: turn, model, tokens a second.
    """

    tokens: pd.DataFrame
    first: pd.DataFrame
    rate: pd.DataFrame


@dataclass(frozen=True)
class ModelFrames:
    """All chats. `tokens`: day (UTC, as text), model, tokens; `first` and `rate`: model, the median of its turns."""

    tokens: pd.DataFrame
    first: pd.DataFrame
    rate: pd.DataFrame


def chat_frames(language: str, figures: Iterable[TurnMetrics], turns: Sequence[str]) -> ChatFrames:
    """Of the last of the turns with these ids, which are numbered as they stand; a turn without figures has no row."""
    numbers = dict(list(zip(turns, range(1, len(turns) + 1), strict=True))[-_CHART_TURNS:])
    shown = sorted((one for one in figures if one.turn_id in numbers), key=lambda one: numbers[one.turn_id])
    names = _names(language, shown)
    prompt, completion = tr(language, "usage.of_prompt"), tr(language, "usage.of_answer")
    at = {one.turn_id: str(numbers[one.turn_id]) for one in shown}  # as text: a bar stands at each, and not at 1.5
    return ChatFrames(
        tokens=_frame(
            ["turn", "kind", "tokens"],
            [
                (at[one.turn_id], kind, count)
                for one in shown
                for kind, count in ((prompt, one.prompt_tokens), (completion, one.completion_tokens))
            ],
        ),
        first=_frame(
            ["turn", "model", "seconds"],
            [(at[one.turn_id], names[_key(one)], one.time_to_first_token) for one in shown],
        ),
        rate=_frame(
            ["turn", "model", "rate"], [(at[one.turn_id], names[_key(one)], one.tokens_per_second) for one in shown]
        ),
    )


def model_frames(language: str, figures: Sequence[TurnMetrics]) -> ModelFrames:
    names = _names(language, figures)
    tokens = _frame(["day", "model", "tokens"], [(_day(one), names[_key(one)], _total(one)) for one in figures])
    last = sorted(set(tokens["day"]))[-_CHART_DAYS:]
    return ModelFrames(
        tokens=tokens[tokens["day"].isin(last)].groupby(["day", "model"], as_index=False)["tokens"].sum(),
        first=_medians("seconds", [(names[_key(one)], one.time_to_first_token) for one in figures]),
        rate=_medians("rate", [(names[_key(one)], one.tokens_per_second) for one in figures]),
    )


def totals_table(language: str, figures: Sequence[TurnMetrics]) -> str:
    """Turns and tokens of each model, of the last days (UTC) and of all together, as HTML."""
    if not figures:
        return f'<p class="phi3-quiet">{escape(tr(language, "no_usage"))}</p>'
    names = _names(language, figures)
    heads = [tr(language, key) for key in ("usage.turns", "row.prompt", "row.completion")]
    head = "".join(f"<th>{escape(word)}</th>" for word in heads)
    days = dict(sorted(_groups(figures, _day).items(), reverse=True)[:_TABLE_DAYS])
    body = _part(language, "usage.models", _groups(figures, lambda one: names[_key(one)]))
    body += _part(language, "usage.days", days)
    whole = _row(language, tr(language, "usage.all"), figures)
    return f'<table class="phi3-usage"><thead><tr><td></td>{head}</tr></thead>{body}<tfoot>{whole}</tfoot></table>'


def _part(language: str, title: str, groups: Mapping[str, Sequence[TurnMetrics]]) -> str:
    head = f'<tr><th colspan="4" scope="rowgroup"><b>{escape(tr(language, title))}</b></th></tr>'
    return f"<tbody>{head}{''.join(_row(language, name, group) for name, group in groups.items())}</tbody>"


def _row(language: str, name: str, group: Sequence[TurnMetrics]) -> str:
    """The sums of what is known."""
    sides = ([one.prompt_tokens for one in group], [one.completion_tokens for one in group])
    known = [[count for count in counts if count is not None] for counts in sides]
    cells = [f"{len(group):,}", *(f"{sum(counts):,}" if counts else tr(language, "unknown") for counts in known)]
    return f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _groups(figures: Iterable[TurnMetrics], name: Callable[[TurnMetrics], str]) -> dict[str, list[TurnMetrics]]:
    """By their name, in the order of these."""
    groups: dict[str, list[TurnMetrics]] = {}
    for one in sorted(figures, key=name):
        groups.setdefault(name(one), []).append(one)
    return groups


def _frame(columns: list[str], rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Without the rows whose last column is not known."""
    return pd.DataFrame([row for row in rows if row[-1] is not None], columns=columns)


def _medians(column: str, rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    return _frame(["model", column], rows).groupby("model", as_index=False)[column].median()


def _names(language: str, figures: Iterable[TurnMetrics]) -> dict[tuple[str, str], str]:
    """What each model is called: its name, with the beginning of its id where others have that name too."""
    keys = {_key(one) for one in figures}
    alike = Counter(name for name, _ in keys)
    unknown = tr(language, "unknown")
    return {(name, id_): f"{name or unknown} ({id_[:8]})" if alike[name] > 1 else name or unknown for name, id_ in keys}


def _key(one: TurnMetrics) -> tuple[str, str]:
    return one.model, one.model_id


def _day(one: TurnMetrics) -> str:
    return f"{datetime.fromtimestamp(one.asked_at, UTC):%Y-%m-%d}"


def _total(one: TurnMetrics) -> int | None:
    if one.prompt_tokens is None or one.completion_tokens is None:
        return None
    return one.prompt_tokens + one.completion_tokens
