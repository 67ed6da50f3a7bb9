"""A conversation and its replay side by side, as data that static/chat/replay.js draws."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import zip_longest
from statistics import median
from typing import TypedDict

from markupsafe import Markup

from phi3_ui.chat.conversation import Answer, Conversation, Turn
from phi3_ui.chat.types import Timings
from phi3_ui.chat.word_diff import DiffPiece, word_diff
from phi3_ui.errors import UserError
from phi3_ui.i18n.hide_paths import hide_paths
from phi3_ui.i18n.translate import format_number, format_rate, format_seconds, tr, tr_error
from phi3_ui.ui.render.templating import render

_LABELS = ("old", "new", "differences")


class ComparedAnswer(TypedDict):
    """One side of a turn."""

    model: str
    """Empty if there is no answer."""
    text: str
    pieces: list[DiffPiece]
    """The text with differences from the other side marked; empty unless both sides have an answer."""
    error: str
    metrics: str
    """The metrics, or a note that there is no answer."""


class ComparedTurn(TypedDict):
    """A question with both answers."""

    question: str
    old: ComparedAnswer
    new: ComparedAnswer


class Comparison(TypedDict):
    """The data of the view."""

    labels: dict[str, str]
    turns: list[ComparedTurn]
    totals: list[list[str]]
    """Rows of a table: name, old, new. The first one is the header."""


def compare(language: str, old: Conversation, new: Conversation | None = None) -> Comparison:
    """Compare the shown branches turn by turn, and their totals. `new` is None before the replay has started."""
    turns = zip_longest(old.turns, new.turns if new else ())
    return {
        "labels": {name: tr(language, f"replay.{name}") for name in _LABELS},
        "turns": [_compare_turn(language, left, right, is_started=new is not None) for left, right in turns],
        "totals": _totals(language, old, new) if new else [],
    }


def render_replay_head(language: str, title: str) -> Markup:
    """Render the view's title with its Close button."""
    return render("replay_head.html", language, title=title)


def render_progress(sentence: str) -> Markup:
    """Render the replay's progress; meanwhile, the style sheet shows Stop instead of Start."""
    return Markup('<p class="phi3-note phi3-running">{}</p>').format(sentence)


@lru_cache(maxsize=32)  # a replay in progress is drawn twice a second
def _diff(old: str, new: str) -> tuple[DiffPiece, ...]:
    return tuple(word_diff(old, new))


def _compare_turn(language: str, old: Turn | None, new: Turn | None, is_started: bool) -> ComparedTurn:
    before, after = (turn.answer if turn else None for turn in (old, new))
    pieces = _diff(before.text, after.text) if before and after else ()
    missing = tr(language, "replay.not_yet") if is_started else ""
    return {
        "question": (old or new or Turn("")).question,
        "old": _side(language, before, [one for one in pieces if one[0] != "only_right"], tr(language, "replay.none")),
        "new": _side(language, after, [one for one in pieces if one[0] != "only_left"], missing),
    }


def _side(language: str, answer: Answer | None, pieces: list[DiffPiece], missing: str) -> ComparedAnswer:
    if answer is None:
        return {"model": "", "text": "", "pieces": [], "error": "", "metrics": missing}
    return {
        "model": answer.model,
        "text": answer.text,
        "pieces": pieces,
        "error": hide_paths(tr_error(language, UserError(answer.error[0], **answer.error[1]))) if answer.error else "",
        "metrics": _metrics(language, answer),
    }


def _metrics(language: str, answer: Answer) -> str:
    """Return the known metrics as text."""
    parts: list[str] = []
    if usage := answer.usage:
        parts.append(tr(language, "tokens", prompt=usage.prompt_tokens, count=usage.completion_tokens))
    timings = answer.timings or Timings(None, 0.0, None)
    if (first := timings.time_to_first_token) is not None:
        parts.append(tr(language, "replay.first", time=format_seconds(language, first)))
    if (rate := timings.tokens_per_second) is not None:
        parts.append(tr(language, "rate", rate=format_rate(language, rate)))
    if answer.finish_reason != "stop":
        parts.append(tr(language, f"finish.{answer.finish_reason or 'error'}"))
    return " · ".join(parts)


def _totals(language: str, old: Conversation, new: Conversation) -> list[list[str]]:
    """Return a table of each side's token sums and median timings."""
    keys = ("models", "answers", "errors", "prompt", "completion", "total", "ttft", "rate")
    sides = [_sums(language, [turn.answer for turn in side.turns if turn.answer]) for side in (old, new)]
    head = ["", tr(language, "replay.old"), tr(language, "replay.new")]
    return [head, *([tr(language, f"replay.row.{key}"), *cells] for key, *cells in zip(keys, *sides, strict=True))]


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
        unknown if rate is None else format_rate(language, rate),
    ]


def _median(answers: Iterable[Answer], metric: Callable[[Timings], float | None]) -> float | None:
    """Return the median of the known values; None if there are none."""
    values = [metric(answer.timings) for answer in answers if answer.timings]
    known = [value for value in values if value is not None]
    return median(known) if known else None
