"""The answers of an evaluation: as values, as rows of a table, and as metrics."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final

import numpy as np

from phi3_ui.chat.conversation import Answer
from phi3_ui.errors import error_from_record
from phi3_ui.evaluation.paired import LEVEL
from phi3_ui.evaluation.prompt_set import PromptRecord

AnswerRow = dict[str, str | int | float | None]

_ROUNDS = 2_000
_MEASURED = ("time_to_first_token", "tokens_per_second", "seconds")
MEASURED: Final = ("first_token", "seconds", "tokens_per_second")
"""The measurements of every answer."""
_SHORT_NAMES = {"time_to_first_token": "first_token"}


@dataclass(frozen=True)
class EvaluatedAnswer:
    """One answer of an evaluation, with its scores."""

    key: str
    """Of the request; the same for all models that received it."""
    record: PromptRecord
    """The request as it was sent, with the expectations of its answer."""
    repeat: int
    """Counted from 0."""
    answer: Answer
    trace_id: str
    scores: Mapping[str, float] = field(default_factory=dict)
    """By scorer; 1 and 0 for right and wrong."""
    rationales: Mapping[str, str] = field(default_factory=dict)
    """By scorer: the verdict of a judge, or why the answer could not be scored."""


def build_row(answer: Answer) -> AnswerRow:
    """Return an answer with its usage and timings (seconds) as a flat dict; unknown values are None."""
    usage, timings = answer.usage, answer.timings
    return {
        "answer": answer.text,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "total_tokens": usage.total_tokens if usage else None,
        "time_to_first_token": timings.time_to_first_token if timings else None,
        "seconds": timings.seconds if timings else None,
        "tokens_per_second": timings.tokens_per_second if timings else None,
        "finish_reason": answer.finish_reason,
        "error": str(error_from_record(*answer.error)) if answer.error else None,
    }


def build_table(answers: Sequence[EvaluatedAnswer]) -> list[AnswerRow]:
    """Return a row for each answer, with a column for each scorer."""
    scorers = list(dict.fromkeys(name for one in answers for name in one.scores))
    return [
        {
            "question": one.record.question,
            "repeat": one.repeat,
            **build_row(one.answer),
            **{name: one.scores.get(name) for name in scorers},
            "trace_id": one.trace_id,
        }
        for one in answers
    ]


def summarize_metrics(rows: Sequence[AnswerRow]) -> dict[str, float]:
    """Return counts of answers and failures, and sums, means and percentiles over the answers with a known value."""

    def known(name: str) -> list[float]:
        return [float(value) for row in rows if isinstance(value := row[name], (int, float))]

    failures = sum(row["error"] is not None for row in rows)
    metrics = {"answers": float(len(rows) - failures), "failures": float(failures)}
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        if values := known(name):
            metrics |= {name: sum(values), f"mean_{name}": fmean(values)}
    for name in _MEASURED:
        if values := known(name):
            short = _SHORT_NAMES.get(name, name)
            metrics[f"mean_{name}"] = fmean(values)
            for percent in (50, 95):
                metrics[f"p{percent}_{short}"] = float(np.percentile(values, percent))
    return metrics


def summarize_answers(answers: Sequence[EvaluatedAnswer]) -> dict[str, float]:
    """Like `summarize_metrics`; add the mean of each score and its 95 % interval as `NAME`, `NAME/low` and `NAME/high`."""
    metrics = summarize_metrics([build_row(one.answer) for one in answers])
    for name in dict.fromkeys(name for one in answers for name in one.scores):
        means = list(average_by_question(answers, name).values())
        low, high = bootstrap_interval(means)
        metrics |= {name: fmean(means), f"{name}/low": low, f"{name}/high": high}
    return metrics


def average_by_question(answers: Sequence[EvaluatedAnswer], name: str) -> dict[str, float]:
    """Return the mean of a score, or of one of MEASURED, over the repeats of each question, by the question's key.

    Questions without a value are omitted.
    """
    values = dict[str, list[float]]()
    for one in answers:
        value = one.scores.get(name, _measure(one.answer, name))
        if value is not None:
            values.setdefault(one.key, []).append(value)
    return {key: fmean(of_key) for key, of_key in values.items()}


def list_metric_names(scorers: Iterable[str]) -> set[str]:
    """Return the names of all metrics that answers with scores of these scorers can have."""
    everything = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens", *_MEASURED), 1.0)
    known = set(summarize_metrics([{"error": None, **everything}]))
    return known | {f"{name}{part}" for name in scorers for part in ("", "/low", "/high")}


def _measure(answer: Answer, name: str) -> float | None:
    timings = answer.timings
    if timings is None or answer.error:
        return None
    values = {
        "first_token": timings.time_to_first_token,
        "seconds": timings.seconds,
        "tokens_per_second": timings.tokens_per_second,
    }
    return values.get(name)


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean, resampling the questions. Needs at least one value."""
    found, counts = np.unique(np.array(values, dtype=float), return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=_ROUNDS)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn @ found / len(values), [tail, 1 - tail])
    return float(low), float(high)
