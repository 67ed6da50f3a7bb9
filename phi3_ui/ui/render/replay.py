"""Pure: a conversation and its replay → HTML that shows them side by side. All values are escaped here."""

from collections.abc import Callable, Iterable
from html import escape
from itertools import zip_longest
from statistics import median

from phi3_ui.chat.conversation import Answer, Conversation, Turn
from phi3_ui.chat.types import Timings
from phi3_ui.chat.word_diff import DiffPiece, Kind, word_diff
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr, tr_error

# What is gone is struck out and what is new underlined, so that both are seen without their colours.
REPLAY_CSS = """
.phi3-replay { --phi3-gone: #b42318; --phi3-new: var(--primary-700); font-variant-numeric: tabular-nums; }
.dark .phi3-replay { --phi3-gone: #fda29b; --phi3-new: var(--primary-300); }
.phi3-replay .turn { border-top: 1px solid var(--border-color-primary); padding: 0.75rem 0; }
.phi3-replay .question { margin: 0 0 var(--phi3-gap); font-weight: 600; white-space: pre-wrap; overflow-wrap: anywhere; }
.phi3-replay .sides { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: var(--phi3-gap) 1.5rem; }
.phi3-replay .side p { margin: 0 0 0.25rem; overflow-wrap: anywhere; }
.phi3-replay .which { color: var(--body-text-color-subdued); font-size: var(--phi3-small); }
.phi3-replay .text { white-space: pre-wrap; }
.phi3-replay del { color: var(--phi3-gone); text-decoration: line-through; }
.phi3-replay ins { color: var(--phi3-new); text-decoration: underline; text-underline-offset: 0.15em; }
@media (max-width: 600px) { .phi3-replay .sides { grid-template-columns: minmax(0, 1fr); } }
"""


def replay_view(language: str, old: Conversation, new: Conversation) -> str:
    """The shown branches of both, turn by turn, and their totals. Turns of `new` that are not there yet are empty."""
    pairs = zip_longest(old.turns, new.turns)
    turns = "".join(_turn(language, one, other) for one, other in pairs)
    return f'<div class="phi3-replay">{turns}{_totals(language, old, new)}</div>'


def _turn(language: str, old: Turn | None, new: Turn | None) -> str:
    question = (old or new or Turn("")).question
    before, after = (turn.answer if turn else None for turn in (old, new))
    pieces = word_diff(before.text, after.text) if before and after else []
    sides = _side(language, "old", before, pieces) + _side(language, "new", after, pieces)
    return f'<div class="turn"><p class="question">{escape(question)}</p><div class="sides">{sides}</div></div>'


def _side(language: str, which: str, answer: Answer | None, pieces: list[DiffPiece]) -> str:
    name = escape(tr(language, f"replay.{which}"))
    if answer is None:
        missing = escape(tr(language, "replay.none" if which == "old" else "replay.not_yet"))
        return f'<div class="side"><p class="which">{name}</p><p class="phi3-quiet">{missing}</p></div>'
    text = _marked(pieces, which) if pieces else escape(answer.text)
    shown = [f'<p class="which">{name} · <b>{escape(answer.model)}</b></p>']
    if text:
        shown.append(f'<p class="text">{text}</p>')
    if answer.error:
        code, values = answer.error
        shown.append(f'<p class="phi3-error">{escape(tr_error(language, UserError(code, **values)))}</p>')
    shown.append(f'<p class="phi3-quiet">{escape(_figures(language, answer))}</p>')
    return f'<div class="side">{"".join(shown)}</div>'


def _marked(pieces: list[DiffPiece], which: str) -> str:
    """One side of a difference."""
    own: Kind = "only_left" if which == "old" else "only_right"
    tag, name = ("del", "gone") if which == "old" else ("ins", "new")
    shown = {"same": "{}", own: f'<{tag} class="{name}">{{}}</{tag}>'}
    return "".join(shown[kind].format(escape(text)) for kind, text in pieces if kind in shown)


def _figures(language: str, answer: Answer) -> str:
    parts = [_tokens(language, answer), _first(language, answer), _rate(language, answer)]
    if answer.finish_reason != "stop":
        parts.append(tr(language, f"finish.{answer.finish_reason or 'error'}"))
    return " · ".join(parts)


def _tokens(language: str, answer: Answer) -> str:
    if answer.usage is None:
        return tr(language, "replay.tokens", tokens=tr(language, "unknown"))
    usage = answer.usage
    return tr(language, "tokens", prompt=f"{usage.prompt_tokens:,}", completion=f"{usage.completion_tokens:,}")


def _first(language: str, answer: Answer) -> str:
    first = answer.timings and answer.timings.time_to_first_token
    return tr(language, "replay.first", time=tr(language, "unknown") if first is None else f"{first:.2f} s")


def _rate(language: str, answer: Answer) -> str:
    rate = answer.timings and answer.timings.tokens_per_second
    return tr(language, "rate", rate=tr(language, "unknown") if rate is None else f"{rate:.1f}")


def _totals(language: str, old: Conversation, new: Conversation) -> str:
    """A table: of each side what its answers took together, and the middle of their times."""
    keys = ("models", "answers", "errors", "prompt", "completion", "total", "ttft", "rate")
    sides = [_sums(language, [turn.answer for turn in side.turns if turn.answer]) for side in (old, new)]
    head = "".join(f"<th>{escape(tr(language, f'replay.{which}'))}</th>" for which in ("old", "new"))
    rows = "".join(
        f"<tr><th>{escape(tr(language, f'replay.row.{key}'))}</th><td>{escape(one)}</td><td>{escape(other)}</td></tr>"
        for key, one, other in zip(keys, *sides, strict=True)
    )
    return f'<table class="phi3-usage"><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _sums(language: str, answers: list[Answer]) -> list[str]:
    unknown = tr(language, "unknown")
    usages = [answer.usage for answer in answers if answer.usage]
    tokens = [unknown] * 3
    if usages:
        whole = sum(usages[1:], usages[0])
        tokens = [f"{count:,}" for count in (whole.prompt_tokens, whole.completion_tokens, whole.total_tokens)]
    first = _middle(answers, lambda timings: timings.time_to_first_token)
    rate = _middle(answers, lambda timings: timings.tokens_per_second)
    return [
        ", ".join(dict.fromkeys(answer.model for answer in answers)) or unknown,
        str(len(answers)),
        str(sum(answer.error is not None for answer in answers)),
        *tokens,
        unknown if first is None else f"{first:.2f} s",
        unknown if rate is None else f"{rate:.1f}",
    ]


def _middle(answers: Iterable[Answer], figure: Callable[[Timings], float | None]) -> float | None:
    figures = [figure(answer.timings) for answer in answers if answer.timings]
    known = [one for one in figures if one is not None]
    return median(known) if known else None
