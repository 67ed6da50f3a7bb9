"""The figures of usage: what is drawn of them, their totals, and that no value in these is ever HTML."""

from dataclasses import replace
from typing import Any

import pandas as pd
from hypothesis import given, settings

from phi3_ui.store.conversations.history import TurnMetrics
from phi3_ui.ui.page import usage_plots
from phi3_ui.ui.render.usage_charts import chat_frames, model_frames, render_totals
from tests.support.hostile import hostile_texts, languages
from tests.support.html import Page

_DAY = 86_400
_MAY_17 = 1_715_938_200.0  # 2024-05-17 09:30 UTC
_ONNX = TurnMetrics("c", "t1", _MAY_17, "phi-3 · ONNX", "m-1", "stop", 100, 20, 0.5, 10.0)
_PIPELINE = replace(
    _ONNX, turn_id="t2", asked_at=_MAY_17 + _DAY, model="phi-3 · Pipeline", model_id="m-2", prompt_tokens=300
)
_UNKNOWN = replace(
    _ONNX,
    turn_id="t3",
    asked_at=_MAY_17 + _DAY,
    prompt_tokens=None,
    completion_tokens=None,
    time_to_first_token=None,
    tokens_per_second=None,
)


def _rows(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(frame.itertuples(index=False, name=None))


def test_a_chat_is_drawn_turn_by_turn_without_what_is_unknown() -> None:
    frames = chat_frames(
        "en", [_PIPELINE, _UNKNOWN, _ONNX, replace(_ONNX, turn_id="of another chat")], ["t1", "t3", "t2"]
    )

    assert list(frames.tokens.columns) == ["turn", "kind", "tokens"]
    assert _rows(frames.tokens) == [
        ("1", "Prompt", 100),
        ("1", "Completion", 20),
        ("3", "Prompt", 300),
        ("3", "Completion", 20),
    ]
    assert _rows(frames.first) == [("1", "phi-3 · ONNX", 0.5), ("3", "phi-3 · Pipeline", 0.5)]
    assert _rows(frames.rate) == [("1", "phi-3 · ONNX", 10.0), ("3", "phi-3 · Pipeline", 10.0)]


def test_of_a_long_chat_the_last_turns_are_drawn() -> None:
    turns = [f"t{number}" for number in range(1, 31)]

    frames = chat_frames("en", [replace(_ONNX, turn_id=turn) for turn in turns], turns)

    assert [row[0] for row in _rows(frames.rate)] == [str(number) for number in range(11, 31)]


def test_all_chats_are_drawn_by_day_and_model() -> None:
    later = replace(_ONNX, turn_id="t4", asked_at=_MAY_17 + 3600, time_to_first_token=0.7, tokens_per_second=30.0)

    frames = model_frames("en", [_ONNX, later, _PIPELINE, _UNKNOWN])

    assert _rows(frames.tokens) == [
        ("May 17, 2024", "phi-3 · ONNX", 240),
        ("May 18, 2024", "phi-3 · Pipeline", 320),
    ]
    assert _rows(frames.first) == [("phi-3 · ONNX", 0.6), ("phi-3 · Pipeline", 0.5)]
    assert _rows(frames.rate) == [("phi-3 · ONNX", 20.0), ("phi-3 · Pipeline", 10.0)]


def test_nothing_known_is_nothing_drawn() -> None:
    for figures in ([], [_UNKNOWN]):
        for frames in (chat_frames("en", figures, ["t3"]), model_frames("en", figures)):
            assert frames.tokens.empty
            assert frames.first.empty
            assert frames.rate.empty


def test_models_of_one_name_are_told_apart() -> None:
    frames = model_frames("en", [_ONNX, replace(_ONNX, model_id="m-77777777777"), replace(_ONNX, model="")])

    assert list(frames.first["model"]) == ["phi-3 · ONNX (m-1)", "phi-3 · ONNX (m-777777)", "unknown"]


def _table(language: str, figures: list[TurnMetrics]) -> dict[str, list[str]]:
    cells = Page(render_totals(language, figures)).texts("th", "td")
    rows, at = dict[str, list[str]](), 4
    while at < len(cells):
        heading = cells[at] in ("By model", "Recent days (UTC)")
        rows[cells[at]] = [] if heading else cells[at + 1 : at + 4]
        at += 1 if heading else 4
    return rows


def test_the_totals_are_of_each_model_of_the_last_days_and_of_all() -> None:
    assert _table("en", [_ONNX, _PIPELINE, replace(_UNKNOWN, model="new", model_id="m-3")]) == {
        "By model": [],
        "new": ["1", "unknown", "unknown"],
        "phi-3 · ONNX": ["1", "100", "20"],
        "phi-3 · Pipeline": ["1", "300", "20"],
        "Recent days (UTC)": [],
        "May 18, 2024": ["2", "300", "20"],
        "May 17, 2024": ["1", "100", "20"],
        "Total": ["3", "400", "40"],
    }
    assert Page(render_totals("en", [])).cells == [("p", "Token counts appear after the first answer.")]


@settings(deadline=None)
@given(languages, hostile_texts, hostile_texts)
def test_no_value_is_html(language: str, model: str, other: str) -> None:
    figures = [replace(_ONNX, model=model), replace(_ONNX, model=other, model_id=other)]

    page = Page(render_totals(language, figures))

    plain = Page(render_totals(language, [replace(_ONNX, model="a"), replace(_ONNX, model="b")]))
    shown = page.texts("th")
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in plain.elements}
    assert {name for _, attributes in page.elements for name, _ in attributes} == {"class", "colspan", "scope"}
    assert all(any(text.startswith(name) for text in shown) for name in (model, other))


def test_plots_take_their_words_from_the_language_and_a_model_its_colour_everywhere() -> None:
    plots = usage_plots.model_plots()
    values, again = usage_plots.plot_updates("ro", plots, model_frames("ro", [_PIPELINE, _ONNX]))

    tokens = values[plots.tokens]
    assert (tokens.x, tokens.y, tokens.color) == ("Ziua", "Tokeni", "Model")
    assert [list(values[plot].color_map) for plot in plots.all[1:]] == [["phi-3 · ONNX", "phi-3 · Pipeline"]] * 3
    assert all(values[plot].visible for plot in plots.all[1:])
    assert Page(values[plots.legend]).texts("p") == ["phi-3 · ONNX", "phi-3 · Pipeline"]
    assert again[plots.tokens].sort == ["17 mai 2024", "18 mai 2024"]


def test_plots_with_nothing_to_show_are_hidden() -> None:
    plots = usage_plots.chat_plots()
    values, _ = usage_plots.plot_updates("en", plots, chat_frames("en", [_UNKNOWN], ["t3"]))

    assert not any(values[plot].visible for plot in plots.all[1:])
    assert values[plots.legend] == ""


@settings(deadline=None, max_examples=30)
@given(hostile_texts)
def test_no_name_in_the_legend_is_html(model: str) -> None:
    plots = usage_plots.model_plots()
    values, _ = usage_plots.plot_updates("en", plots, model_frames("en", [replace(_ONNX, model=model)]))

    page = Page(values[plots.legend])
    assert [tag for tag, _ in page.elements] == ["p"]
    assert page.texts("p") == [model]
