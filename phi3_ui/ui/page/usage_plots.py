"""The plots of the usage: bars, each with its words and colours, drawn from the tables of usage_charts.

Bars throughout: a line through the one turn that a new chat has would show nothing.
"""

from collections.abc import Iterator
from html import escape
from itertools import cycle
from typing import Any

import gradio as gr
import pandas as pd

from phi3_ui.i18n.translate import tr
from phi3_ui.ui.page.components import Updates, UsagePlots
from phi3_ui.ui.page.texts import I18N
from phi3_ui.ui.render.usage_charts import ChatFrames, ModelFrames

_HEIGHT = 240  # pixels

# Gradio gives the drawing the height of the whole block, so that the legend would be cut off by that of the label.
PLOT_CSS = """
.phi3-plot .vega-embed { height: calc(100% - 1.75rem) !important; }
.phi3-legend { margin: 0; font-size: var(--phi3-small); overflow-wrap: anywhere; }
.phi3-legend::before { content: "■ "; color: var(--colour); }
"""

# Each is seen on white and on the dark page: teal, the accent, then slate, amber, indigo, rose, sky.
_COLOURS = ["#0d9488", "#94a3b8", "#d97706", "#818cf8", "#f43f5e", "#0ea5e9"]


def chat_plots() -> UsagePlots:
    """Of one chat: for ChatFrames."""
    return UsagePlots(
        legend=gr.HTML(),
        tokens=_plot("usage.chat.tokens", "turn", "tokens", "kind"),
        first=_plot("usage.chat.first", "turn", "seconds", "model"),
        rate=_plot("usage.chat.rate", "turn", "rate", "model"),
    )


def model_plots() -> UsagePlots:
    """Of all chats: for ModelFrames."""
    return UsagePlots(
        legend=gr.HTML(),
        tokens=_plot("usage.all.tokens", "day", "tokens", "model", x_label_angle=-45),
        # The legend says which bar is whose.
        first=_plot("usage.all.first", "model", "seconds", "model", x_axis_labels_visible=False),
        rate=_plot("usage.all.rate", "model", "rate", "model", x_axis_labels_visible=False),
    )


def drawn(language: str, plots: UsagePlots, frames: ChatFrames | ModelFrames) -> Iterator[Updates]:
    """Two updates, to be given one after the other.

    Gradio draws a plot anew, with the colours of its series, when its settings change, but before it takes in the values
    that came with them: a series that was not there before would have no colour. The second update draws it once more.
    """
    pairs = [(plots.tokens, frames.tokens), (plots.first, frames.first), (plots.rate, frames.rate)]
    models = {name for _, frame in pairs if "model" in frame for name in frame["model"]}
    colours = dict(zip(sorted(models), cycle(_COLOURS), strict=False))  # each model's is the same in all plots
    yield {plots.legend: _legend(colours), **{plot: _drawn(language, frame, colours) for plot, frame in pairs}}
    yield {plot: gr.BarPlot(sort=_order(frame)) for plot, frame in pairs}


def _plot(label: str, x: str, y: str, color: str, **options: Any) -> gr.BarPlot:
    return gr.BarPlot(
        None,
        x,
        y,
        color=color,
        color_title=" ",  # without one, the column's name stands below the legend
        colors_in_legend=[] if color == "model" else None,
        y_lim=[0, None],
        label=I18N(label),
        height=_HEIGHT,
        visible=False,
        elem_classes="phi3-plot",
        **options,
    )


def _drawn(language: str, frame: pd.DataFrame, colours: dict[str, str]) -> gr.BarPlot:
    """Axes and tooltips say what columns are called: they get their words here."""
    words = {column: tr(language, f"usage.{column}") for column in frame.columns}
    series = "model" if "model" in frame else "kind"
    return gr.BarPlot(
        frame.rename(columns=words),
        words[frame.columns[0]],
        words[frame.columns[-1]],
        color=words[series],
        color_map=colours if series == "model" else dict(zip(frame[series].unique(), _COLOURS, strict=False)),
        sort=_order(frame),
        visible=not frame.empty,
    )


def _legend(colours: dict[str, str]) -> str:
    """One for all plots: Gradio's own is one line, cut off where a few names of models do not fit."""
    return "".join(
        f'<p class="phi3-legend" style="--colour: {hue}">{escape(name)}</p>' for name, hue in colours.items()
    )


def _order(frame: pd.DataFrame) -> list[str]:
    """The bars as the rows come: turn 2 before turn 10."""
    return list(frame[frame.columns[0]].unique())
