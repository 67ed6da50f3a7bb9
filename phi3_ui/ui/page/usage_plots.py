"""Bar plots of token usage, drawn from the tables of render/usage_charts.py.

Bars, not lines: the single turn of a new chat would give an invisible line.
"""

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import gradio as gr
import pandas as pd
from markupsafe import Markup

from phi3_ui.i18n.translate import tr
from phi3_ui.ui.page.components import Updates, UsagePlots
from phi3_ui.ui.page.texts import I18N
from phi3_ui.ui.render.usage_charts import ChatFrames, ModelFrames

_HEIGHT = 240  # pixels

# Each has enough contrast on white and on the dark page: teal, the accent, then slate, amber, indigo, rose, sky.
_COLORS = ["#0d9488", "#94a3b8", "#d97706", "#818cf8", "#f43f5e", "#0ea5e9"]

_LEGEND_ENTRY = Markup('<p class="phi3-legend" style="--color: {}">{}</p>')


def chat_plots() -> UsagePlots:
    """Plots of one chat, for ChatFrames."""
    return UsagePlots(
        legend=gr.HTML(),
        tokens=_create_plot("usage.chat.tokens", "turn", "tokens", "kind"),
        first=_create_plot("usage.chat.first", "turn", "seconds", "model"),
        rate=_create_plot("usage.chat.rate", "turn", "rate", "model"),
    )


def model_plots() -> UsagePlots:
    """Plots of all chats, for ModelFrames."""
    return UsagePlots(
        legend=gr.HTML(),
        tokens=_create_plot("usage.all.tokens", "day", "tokens", "model", x_label_angle=-45),
        # The legend names the bars.
        first=_create_plot("usage.all.first", "model", "seconds", "model", x_axis_labels_visible=False),
        rate=_create_plot("usage.all.rate", "model", "rate", "model", x_axis_labels_visible=False),
    )


def plot_updates(language: str, plots: UsagePlots, frames: ChatFrames | ModelFrames) -> Iterator[Updates]:
    """Two updates, to be sent one after the other.

    When a plot's settings change, Gradio redraws it before it takes in the values that came with them, so a new series
    would have no colour. The second update makes it draw once more.
    """
    pairs = [(plots.tokens, frames.tokens), (plots.first, frames.first), (plots.rate, frames.rate)]
    models = {name for _, frame in pairs if "model" in frame for name in frame["model"]}
    colors = dict(zip(sorted(models), cycle(_COLORS), strict=False))  # a model has one colour in all plots
    yield {plots.legend: _render_legend(colors), **{plot: _filled(language, frame, colors) for plot, frame in pairs}}
    yield {plot: gr.BarPlot(sort=_bar_order(frame)) for plot, frame in pairs}


def _create_plot(label: str, x: str, y: str, color: str, **options: Any) -> gr.BarPlot:
    return gr.BarPlot(
        None,
        x,
        y,
        color=color,
        color_title=" ",  # without a title, the column's name stands below the legend
        colors_in_legend=[] if color == "model" else None,
        y_lim=[0, None],
        label=I18N(label),
        height=_HEIGHT,
        visible=False,
        elem_classes="phi3-plot",
        **options,
    )


def _filled(language: str, frame: pd.DataFrame, colors: dict[str, str]) -> gr.BarPlot:
    """Axes and tooltips show column names, so the columns are renamed to translated ones."""
    names = {column: tr(language, f"usage.{column}") for column in frame.columns}
    series = "model" if "model" in frame else "kind"
    return gr.BarPlot(
        frame.rename(columns=names),
        names[frame.columns[0]],
        names[frame.columns[-1]],
        color=names[series],
        color_map=colors if series == "model" else dict(zip(frame[series].unique(), _COLORS, strict=False)),
        sort=_bar_order(frame),
        visible=not frame.empty,
    )


def _render_legend(colors: dict[str, str]) -> Markup:
    """One legend for all plots: Gradio's own is a single line, which cuts off the names of several models."""
    return Markup("").join(_LEGEND_ENTRY.format(color, name) for name, color in colors.items())


def _bar_order(frame: pd.DataFrame) -> list[str]:
    """In the order of the rows: turn 2 before turn 10."""
    return list(frame[frame.columns[0]].unique())
