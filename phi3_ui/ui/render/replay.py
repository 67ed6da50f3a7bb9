"""A conversation and its replay, side by side."""

from collections.abc import Callable, Iterable
from itertools import zip_longest
from statistics import median
from typing import Any

from markupsafe import Markup

from phi3_ui.chat.conversation import Answer, Conversation, Turn
from phi3_ui.chat.types import Timings
from phi3_ui.chat.word_diff import DiffPiece, word_diff
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import format_number, format_seconds, tr, tr_error
from phi3_ui.ui.render.templating import render


def render_replay(language: str, old: Conversation, new: Conversation) -> Markup:
    """The shown branches of both, turn by turn, and their totals. Missing turns of `new` are marked as such."""
    turns = [_turn(language, left, right) for left, right in zip_longest(old.turns, new.turns)]
    return render("replay.html", language, turns=turns, totals=_totals(language, old, new))


def _turn(language: str, old: Turn | None, new: Turn | None) -> dict[str, Any]:
    question = (old or new or Turn("")).question
    before, after = (turn.answer if turn else None for turn in (old, new))
    pieces = word_diff(before.text, after.text) if before and after else None
    return {
        "question": question,
        "old": _side(language, before, pieces, hidden="only_right"),
        "new": _side(language, after, pieces, hidden="only_left"),
    }


def _side(
    language: str, answer: Answer | None, pieces: Iterable[DiffPiece] | None, hidden: str
) -> dict[str, Any] | None:
    if answer is None:
        return None
    whole = [("same", answer.text)] if answer.text else []
    return {
        "model": answer.model,
        "chunks": whole if pieces is None else [piece for piece in pieces if piece[0] != hidden],
        "error": tr_error(language, UserError(answer.error[0], **answer.error[1])) if answer.error else "",
        "metrics": _metrics(language, answer),
    }


def _metrics(language: str, answer: Answer) -> str:
    unknown = tr(language, "unknown")
    tokens = tr(language, "replay.tokens", tokens=unknown)
    if usage := answer.usage:
        tokens = tr(language, "tokens", prompt=usage.prompt_tokens, count=usage.completion_tokens)
    timings = answer.timings or Timings(None, 0.0, None)
    first, rate = timings.time_to_first_token, timings.tokens_per_second
    parts = [
        tokens,
        tr(language, "replay.first", time=unknown if first is None else format_seconds(language, first)),
        tr(language, "rate", rate=unknown if rate is None else format_number(language, rate, 1)),
    ]
    if answer.finish_reason != "stop":
        parts.append(tr(language, f"finish.{answer.finish_reason or 'error'}"))
    return " · ".join(parts)


def _totals(language: str, old: Conversation, new: Conversation) -> Markup:
    """A table: each side's token sums and the medians of its timings."""
    keys = ("models", "answers", "errors", "prompt", "completion", "total", "ttft", "rate")
    sides = [_sums(language, [turn.answer for turn in side.turns if turn.answer]) for side in (old, new)]
    rows = [(tr(language, f"replay.row.{key}"), *cells) for key, *cells in zip(keys, *sides, strict=True)]
    columns = [tr(language, "replay.old"), tr(language, "replay.new")]
    return render("usage_table.html", language, columns=columns, rows=rows)


def _sums(language: str, answers: list[Answer]) -> list[str]:
    unknown = tr(language, "unknown")
    usages = [answer.usage for answer in answers if answer.usage]
    tokens = [unknown] * 3
    if usages:
        total = sum(usages[1:], usages[0])
        counts = (total.prompt_tokens, total.completion_tokens, total.total_tokens)
        tokens = [format_number(language, count) for count in counts]
    first = _median(answers, lambda timings: timings.time_to_first_token)
    rate = _median(answers, lambda timings: timings.tokens_per_second)
    return [
        ", ".join(dict.fromkeys(answer.model for answer in answers)) or unknown,
        format_number(language, len(answers)),
        format_number(language, sum(answer.error is not None for answer in answers)),
        *tokens,
        unknown if first is None else format_seconds(language, first),
        unknown if rate is None else format_number(language, rate, 1),
    ]


def _median(answers: Iterable[Answer], metric: Callable[[Timings], float | None]) -> float | None:
    """The median of the known values; None if there are none."""
    values = [metric(answer.timings) for answer in answers if answer.timings]
    known = [value for value in values if value is not None]
    return median(known) if known else None
