"""The results of an evaluation: the metrics of each model, and the answers side by side with their differences marked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from phi3_ui.chat.word_diff import word_diff
from phi3_ui.errors import error_from_record
from phi3_ui.evaluation.answer_rows import EvaluatedAnswer
from phi3_ui.evaluation.prompt_set import EXPECTED_RESPONSE
from phi3_ui.evaluation.running import RunningEvaluation
from phi3_ui.evaluation.runs import Evaluation, EvaluationRun
from phi3_ui.i18n.hide_paths import hide_paths
from phi3_ui.i18n.translate import format_number, format_rate, format_seconds, tr, tr_error
from phi3_ui.ui.render.evaluations import PAGE_SIZE, describe_evaluation, describe_pages, format_score
from phi3_ui.ui.render.templating import render

_Row = tuple[EvaluatedAnswer | None, ...]
"""The answers of all models to one request, in the order of the models."""
_MEASURES: Mapping[str, Callable[[str, float], str]] = {
    "answers": format_number,
    "failures": format_number,
    "p50_first_token": format_seconds,
    "p95_first_token": format_seconds,
    "mean_seconds": format_seconds,
    "mean_tokens_per_second": format_rate,
}
"""How to format each metric that does not come from a scorer, by name; its label is the text `eval.metric.NAME`."""


@dataclass(frozen=True)
class ResultsView:
    """The data of the results page."""

    evaluation: Evaluation
    running: RunningEvaluation | None
    """While the evaluation is running, its answers are not shown."""
    answers: Sequence[Sequence[EvaluatedAnswer]]
    """The answers of each run."""
    rows: str
    """A key of ROW_FILTERS."""
    start: int
    chat_ids: Mapping[str, str]
    """The user's chats that questions were taken from, by the key of the request."""
    run_link: Callable[[str], str]
    """Returns the URL of a run in MLflow's UI; empty if there is none."""
    trace_link: Callable[[str], str]


def _differs(row: _Row) -> bool:
    return len({one.answer.text if one else None for one in row}) > 1


def _scores_differ(row: _Row) -> bool:
    scores = [one.scores if one else {} for one in row]
    return any(one.get(name) != scores[0].get(name) for one in scores for name in one)


def _is_wrong(row: _Row) -> bool:
    return any(one is not None and 0.0 in one.scores.values() for one in row)


def _has_failed(row: _Row) -> bool:
    return any(one is None or one.answer.error is not None for one in row)


ROW_FILTERS: Mapping[str, Callable[[_Row], bool]] = {
    "all": lambda _: True,
    "different": _differs,
    "scores": _scores_differ,
    "wrong": _is_wrong,
    "failed": _has_failed,
}
"""By name of the choice."""


def render_results(language: str, view: ResultsView) -> str:
    """Render the results."""
    rows = list(filter(ROW_FILTERS.get(view.rows, ROW_FILTERS["all"]), _join(view.answers)))
    runs, running = view.evaluation.runs, view.running
    error = running.progress.error if running else None
    return render(
        "evaluation_results.html",
        language,
        evaluation=describe_evaluation(language, view.evaluation, running),
        error=hide_paths(tr_error(language, error)) if error else "",
        names=[run.name for run in runs],
        metrics=_describe_metrics(language, runs),
        links=[view.run_link(run.run_id) for run in runs],
        filters=[(name, tr(language, f"eval.rows.{name}")) for name in ROW_FILTERS],
        selected=view.rows,
        count=tr(language, "eval.rows.count", count=len(rows)),
        rows=[_describe_row(language, view, row) for row in rows[view.start : view.start + PAGE_SIZE]],
        pages=describe_pages(language, view.start, len(rows)),
    )


def _join(answers: Sequence[Sequence[EvaluatedAnswer]]) -> list[_Row]:
    """Group the answers to the same request and repeat, in the order of the first run that has them."""
    found = [{(one.key, one.repeat): one for one in run} for run in answers]
    keys = dict.fromkeys(key for run in found for key in run)
    return [tuple(run.get(key) for run in found) for key in keys]


def _describe_metrics(language: str, runs: Sequence[EvaluationRun]) -> list[dict[str, object]]:
    """Return a row for each metric: the scores with their intervals, then the measurements."""
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    scorers = [name for name in names if f"{name}/low" in names]
    return [
        {
            "name": tr(language, f"eval.metric.{name}") if name in _MEASURES else name,
            "cells": [_describe_metric(language, run.metrics, name) for run in runs],
        }
        for name in (*scorers, *(name for name in _MEASURES if name in names and name not in scorers))
    ]


def _describe_metric(language: str, metrics: Mapping[str, float], name: str) -> dict[str, object] | None:
    if (value := metrics.get(name)) is None:
        return None
    low, high = metrics.get(f"{name}/low"), metrics.get(f"{name}/high")
    cell: dict[str, object] = {"value": _MEASURES.get(name, format_score)(language, value), "between": "", "at": ""}
    if low is not None and high is not None:
        cell["between"] = tr(
            language, "ratings.between", low=format_score(language, low), high=format_score(language, high)
        )
        if 0 <= low <= high <= 1:
            cell |= {"at": f"{value:.2%}", "from": f"{low:.2%}", "width": f"{high - low:.2%}"}
    return cell


def _describe_row(language: str, view: ResultsView, row: _Row) -> dict[str, object]:
    first = next(one for one in row if one)
    record, repeat = first.record, first.repeat
    return {
        "question": record.question,
        "repeat": tr(language, "eval.repeat", number=repeat + 1) if view.evaluation.runs[0].repeats > 1 else "",
        "expected": record.expectations.get(EXPECTED_RESPONSE, ""),
        "chat": view.chat_ids.get(first.key, ""),
        "cells": [_describe_cell(language, view, row, place) for place in range(len(row))],
    }


def _describe_cell(language: str, view: ResultsView, row: _Row, place: int) -> dict[str, object]:
    one = row[place]
    if one is None:
        return {"pieces": [], "error": tr(language, "eval.no_answer"), "scores": [], "reasons": [], "link": ""}
    error = one.answer.error
    return {
        "pieces": _mark(row, place),
        "error": hide_paths(tr_error(language, error_from_record(*error))) if error else "",
        "scores": [(name, format_score(language, value)) for name, value in one.scores.items()],
        "reasons": one.rationales.items(),
        "link": view.trace_link(one.trace_id),
    }


def _mark(row: _Row, place: int) -> list[tuple[str, bool]]:
    """Split an answer's text into pieces, each with whether it differs: for the first model from the second, for others from the first."""
    one, other = row[place], row[1 if place == 0 else 0] if len(row) > 1 else None
    if one is None:
        return []
    if other is None:
        return [(one.answer.text, False)]
    pieces = word_diff(one.answer.text, other.answer.text)
    return [(text, kind == "only_left") for kind, text in pieces if kind != "only_right"]
