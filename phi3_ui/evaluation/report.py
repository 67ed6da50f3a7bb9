"""The report of one candidate: a self-contained HTML file without scripts or network access."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from phi3_ui.errors import error_from_record
from phi3_ui.evaluation.answer_rows import EvaluatedAnswer
from phi3_ui.evaluation.plan import EvaluationPlan
from phi3_ui.evaluation.prompt_set import EXPECTED_RESPONSE
from phi3_ui.i18n.translate import tr

_LEFT, _RIGHT = 200.0, 520.0  # the ends of the score axis, in the template's units
_WIDTH, _HEIGHT, _BINS = 640.0, 140.0, 20
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
)


def render_report(
    name: str,
    plan: EvaluationPlan,
    answers: Sequence[EvaluatedAnswer],
    metrics: Mapping[str, float],
    language: str = "en",
) -> str:
    """Return the report on the answers of one candidate, called `name`, as HTML."""
    scorers = list(dict.fromkeys(scorer for one in answers for scorer in (*one.scores, *one.rationales)))
    return _ENVIRONMENT.get_template("report.html").render(
        t=partial(tr, language),
        language=language,
        name=name,
        plan=plan,
        facts=_list_facts(name, plan, metrics, language),
        bars=[bar for scorer in scorers if (bar := _build_bar(scorer, metrics))],
        histogram=_build_histogram([one.answer.timings.seconds for one in answers if one.answer.timings]),
        metrics=[(key, format_number(value)) for key, value in sorted(metrics.items())],
        scorers=scorers,
        rows=[_build_row(one, scorers) for one in answers],
    )


def format_number(value: float) -> str:
    """Format a number with four significant digits, or without decimals if it is an integer."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


def _list_facts(name: str, plan: EvaluationPlan, metrics: Mapping[str, float], language: str) -> list[tuple[str, str]]:
    candidate = next((one for one in plan.candidates if one.name == name), plan.candidates[0])
    facts = {
        "report.model": candidate.model_id,
        "report.set": f"{plan.set_name}/{plan.set_version}" if plan.set_version else plan.set_name,
        "report.digest": plan.set_digest,
        "report.count": format_number(metrics["answers"]),
        "report.failures": format_number(metrics["failures"]),
        "report.repeats": str(plan.repeats),
        "report.params": ", ".join(f"{key}={value}" for key, value in candidate.params.as_dict().items()),
        "report.system": candidate.system,
        "report.judge": f"{plan.judge.model}: {plan.judge.criterion}" if plan.judge else "",
    }
    return [(tr(language, key), value) for key, value in facts.items() if value]


def _build_bar(scorer: str, metrics: Mapping[str, float]) -> dict[str, Any] | None:
    """Return the mean and interval of a score on the axis from 0 to 1; None if they do not lie on it."""
    values = [metrics.get(key) for key in (scorer, f"{scorer}/low", f"{scorer}/high")]
    known = [value for value in values if value is not None and 0 <= value <= 1]
    if len(known) < len(values):
        return None
    mean, low, high = known
    places = [_LEFT + value * (_RIGHT - _LEFT) for value in known]
    label = f"{mean:.3f} ({low:.3f}–{high:.3f})"
    return {"name": scorer, "mean_x": places[0], "low_x": places[1], "high_x": places[2], "label": label}


def _build_histogram(seconds: Sequence[float]) -> dict[str, Any] | None:
    """Return a histogram of the answers' durations; None if fewer than two are known."""
    if len(seconds) < 2:
        return None
    counts, edges = np.histogram(seconds, bins=min(_BINS, len(seconds)))
    width = _WIDTH / len(counts)
    bins = [
        {
            "x": round(number * width, 1),
            "y": round(150 - _HEIGHT * count / max(counts), 1),
            "width": round(width - 2, 1),
            "height": round(_HEIGHT * count / max(counts), 1),
            "label": f"{edges[number]:.3g}–{edges[number + 1]:.3g} s: {count}",
        }
        for number, count in enumerate(counts.tolist())
    ]
    return {"bins": bins, "low": f"{edges[0]:.3g} s", "high": f"{edges[-1]:.3g} s"}


def _build_row(one: EvaluatedAnswer, scorers: Sequence[str]) -> dict[str, Any]:
    error = str(error_from_record(*one.answer.error)) if one.answer.error else ""
    return {
        "question": one.record.question,
        "expected": str(one.record.expectations.get(EXPECTED_RESPONSE, "")),
        "answer": one.answer.text or error,
        "scores": [
            {
                "value": format_number(one.scores[scorer]) if scorer in one.scores else "–",
                "rationale": one.rationales.get(scorer, ""),
            }
            for scorer in scorers
        ],
    }
