"""The regression gate: decide by conditions on the metrics whether a candidate may replace a baseline."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from phi3_ui.evaluation.answer_rows import MEASURED, EvaluatedAnswer, average_by_question, summarize_answers
from phi3_ui.evaluation.conditions import Condition
from phi3_ui.evaluation.paired import PairedDifference, compare_scores

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class ConditionResult:
    """The outcome of a condition."""

    condition: str
    has_failed: bool
    """Whether the condition holds, so that the gate fails."""
    value: float
    """Of the candidate's metric."""
    limit: float
    """The number that the metric is compared with."""

    def __str__(self) -> str:
        verdict = "FAILED" if self.has_failed else "passed"
        return f"{verdict}  {self.condition}  ({self.value:.4g} against {self.limit:.4g})"


@dataclass(frozen=True)
class GateResult:
    """The verdict and its grounds."""

    baseline: str
    """The name given by the caller; empty if there is none."""
    candidate: str
    differences: Mapping[str, PairedDifference]
    """Candidate minus baseline over paired questions, by scorer or measurement."""
    conditions: tuple[ConditionResult, ...]
    metrics: Mapping[str, float]
    """Of the candidate."""

    @property
    def has_passed(self) -> bool:
        """Whether no condition failed."""
        return not any(one.has_failed for one in self.conditions)


def decide(
    names: tuple[str, str],
    conditions: Sequence[Condition],
    baseline: Sequence[EvaluatedAnswer],
    candidate: Sequence[EvaluatedAnswer],
) -> GateResult:
    """Compare two models that answered the same requests.

    Args:
        names: Of baseline and candidate; the first is empty if there is no baseline.
        conditions: The gate fails if any of them holds.
        baseline: The baseline's answers; empty if there is none.
        candidate: The candidate's answers.

    Raises:
        UserError: condition_metric_missing, condition_undefined.
    """
    before, after = summarize_answers(baseline), summarize_answers(candidate)
    results = [
        ConditionResult(
            one.text,
            one.holds(after, before),
            after[one.metric],
            one.compute_limit(before),
        )
        for one in conditions
    ]
    scorers = dict.fromkeys(name for answer in (*baseline, *candidate) for name in answer.scores)
    differences = {
        name: found for name in (*scorers, *MEASURED) if (found := _compare(name, baseline, candidate)) is not None
    }
    return GateResult(*names, differences, tuple(results), after)


def _compare(
    name: str, baseline: Sequence[EvaluatedAnswer], candidate: Sequence[EvaluatedAnswer]
) -> PairedDifference | None:
    before, after = average_by_question(baseline, name), average_by_question(candidate, name)
    keys = list(dict.fromkeys((*before, *after)))
    return compare_scores([before.get(key) for key in keys], [after.get(key) for key in keys])


def describe_result(result: GateResult) -> dict[str, Any]:
    """Return the result as JSON values."""
    return {
        "baseline": result.baseline or None,
        "candidate": result.candidate,
        "passed": result.has_passed,
        "conditions": [
            {"condition": one.condition, "failed": one.has_failed, "value": one.value, "limit": one.limit}
            for one in result.conditions
        ],
        "comparison": [
            {"metric": name, "difference": one.difference, **asdict(one)} for name, one in result.differences.items()
        ],
        "metrics": dict(result.metrics),
    }


def format_result(result: GateResult) -> str:
    """Format the comparison as a text table, followed by the conditions and the verdict, if there are any."""
    lines = [["metric", "baseline", "candidate", "difference", "95 % interval", "p (McNemar)", "questions"]]
    for name, one in result.differences.items():
        p_value = "" if one.p_value is None else f"{one.p_value:.3g}"
        interval = f"{one.low:+.4g} to {one.high:+.4g}"
        numbers = [f"{one.baseline:.4g}", f"{one.candidate:.4g}", f"{one.difference:+.4g}"]
        lines.append([name, *numbers, interval, p_value, str(one.questions)])
    if len(lines) == 1:
        lines = [["metric", "candidate"], *([name, f"{value:.4g}"] for name, value in sorted(result.metrics.items()))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    verdict = [f"{result.candidate} {'has passed' if result.has_passed else 'has FAILED'}"] if result.conditions else []
    return "\n".join([*table, "", *map(str, result.conditions), *verdict])


def write_junit(result: GateResult, set_name: str) -> bytes:
    """Return the conditions as test cases of a JUnit XML file, for CI services to display."""
    failures = sum(one.has_failed for one in result.conditions)
    counts = {"tests": str(len(result.conditions)), "failures": str(failures)}
    suites = ET.Element("testsuites", counts)
    suite = ET.SubElement(suites, "testsuite", {"name": _clean(f"evaluate {set_name}"), **counts})
    for one in result.conditions:
        case = ET.SubElement(
            suite, "testcase", {"classname": _clean(result.candidate), "name": _clean(f"not {one.condition}")}
        )
        if one.has_failed:
            ET.SubElement(case, "failure", {"message": _clean(str(one))})
    ET.SubElement(suite, "system-out").text = _clean(format_result(result))
    content: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return content


def _clean(text: str) -> str:
    """Replace the characters that XML cannot represent."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
