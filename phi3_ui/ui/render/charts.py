"""Bar charts as HTML, drawn by the style sheet static/usage.css, with a table of their values for screen readers."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

from markupsafe import Markup

from phi3_ui.i18n.translate import format_number
from phi3_ui.ui.render.templating import render

_HEAD_ROOM = 1.05
_MAX_LABELS = 7  # along the axis of a chart that is as narrow as a phone
_STEPS = (1, 2, 5, 10)


@dataclass(frozen=True)
class Series:
    """Values of one colour."""

    name: str
    color: str
    """Name of a custom property of the style sheets, such as --seg-answer."""


@dataclass(frozen=True)
class Bar:
    """A bar of stacked values."""

    label: str
    values: dict[Series, float]
    """From the bottom up; an unknown value is left out."""
    name: str = ""
    """The full label, if `label` is shortened."""


@dataclass(frozen=True)
class BarChart:
    """Bars along an axis."""

    title: str
    x_title: str
    y_title: str
    bars: Sequence[Bar]
    decimals: int = 0
    """Number of decimals of the values."""


def axis_ticks(maximum: float, whole: bool = False) -> list[float]:
    """Return evenly spaced round numbers from 0 to slightly more than `maximum`; `whole` ones for counts."""
    highest = max(maximum, 1e-9) * _HEAD_ROOM
    least = highest / 4
    magnitude = 10.0 ** floor(log10(least))
    step = next((step * magnitude for step in _STEPS if step * magnitude >= least), 10 * magnitude)
    if whole:
        step = max(step, 1.0)
    return [step * number for number in range(ceil(highest / step) + 1)]


def render_bar_chart(language: str, chart: BarChart) -> Markup:
    """Render a chart; empty if no value is known."""
    series = list(dict.fromkeys(one for bar in chart.bars for one in bar.values))
    if not series:
        return Markup("")
    ticks = axis_ticks(max(sum(bar.values.values()) for bar in chart.bars), whole=not chart.decimals)
    every = ceil(len(chart.bars) / _MAX_LABELS)
    decimals = max(0, -floor(log10(ticks[1])))

    def write(value: float | None) -> str | None:
        return None if value is None else format_number(language, value, chart.decimals)

    return render(
        "bar_chart.html",
        language,
        chart=chart,
        ticks=[(f"{tick / ticks[-1]:.2%}", format_number(language, tick, decimals)) for tick in ticks],
        bars=[
            {
                "label": "" if index % every else bar.label,
                "title": "\n".join(
                    [bar.name or bar.label, *(f"{one.name}: {write(bar.values[one])}" for one in bar.values)]
                ),
                "parts": [(one.color, f"{value / ticks[-1]:.2%}") for one, value in bar.values.items()],
            }
            for index, bar in enumerate(chart.bars)
        ],
        columns=[one.name for one in series],
        rows=[(bar.name or bar.label, [write(bar.values.get(one)) for one in series]) for bar in chart.bars],
    )


def render_measures(language: str, title: str, measures: Sequence[tuple[Series, float, str]]) -> Markup:
    """Render a horizontal bar for each `(series, value, value as text)`, with its value; empty without values.

    A single value gets no bar: there is nothing to compare it with.
    """
    longest = max((value for _, value, _ in measures), default=0.0) or 1.0
    rows: list[dict[str, Any]] = [
        {"name": one.name, "color": one.color, "width": f"{value / longest:.2%}", "value": text}
        for one, value, text in measures
    ]
    return render("measures.html", language, title=title, rows=rows, has_bars=len(rows) > 1) if rows else Markup("")


def render_legend(language: str, series: Sequence[Series]) -> Markup:
    """Render a legend of the colours."""
    return render("legend.html", language, series=series)
