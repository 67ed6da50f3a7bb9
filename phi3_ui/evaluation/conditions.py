"""Conditions under which a regression gate fails, such as `exact_match < baseline - 0.02`."""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from phi3_ui.errors import UserError

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_CONDITION = re.compile(r"\s*([A-Za-z_][\w./-]*)\s*(<=|>=|<|>)\s*(.+?)\s*", re.DOTALL)
_MAX_CHARS = 200
_BASELINE = "baseline"


@dataclass(frozen=True)
class Condition:
    """Compares a metric of the candidate with a number, or with an expression in the same metric of the baseline."""

    text: str
    metric: str
    comparison: str
    limit: ast.expr

    @property
    def uses_baseline(self) -> bool:
        """Whether its limit depends on the baseline."""
        return any(isinstance(node, ast.Name) for node in ast.walk(self.limit))

    def holds(self, candidate: Mapping[str, float], baseline: Mapping[str, float]) -> bool:
        """Whether it holds, so that the gate fails. Raises UserError: condition_metric_missing, condition_undefined."""
        return _COMPARISONS[self.comparison](self._get(candidate, "candidate"), self.compute_limit(baseline))

    def compute_limit(self, baseline: Mapping[str, float]) -> float:
        """Compute the number to compare the metric with. Raises UserError: condition_metric_missing, condition_undefined."""
        try:
            return _evaluate(self.limit, lambda: self._get(baseline, _BASELINE))
        except ArithmeticError as error:
            raise UserError("condition_undefined", condition=self.text) from error

    def _get(self, metrics: Mapping[str, float], whose: str) -> float:
        if self.metric not in metrics:
            known = ", ".join(sorted(metrics)) or "none"
            raise UserError("condition_metric_missing", metric=self.metric, whose=whose, known=known)
        if math.isnan(value := metrics[self.metric]):
            raise UserError("condition_undefined", condition=self.text)  # every comparison with NaN is false
        return value


def parse_condition(text: str) -> Condition:
    """Parse a condition: a metric, one of < <= > >=, and an expression of numbers, `baseline`, + - * / and parentheses.

    Raises:
        UserError: bad_condition.
    """
    found = _CONDITION.fullmatch(text) if len(text) <= _MAX_CHARS else None
    if not found:
        raise UserError("bad_condition", condition=text[:_MAX_CHARS])
    try:
        limit = ast.parse(found[3], mode="eval").body
        _evaluate(limit, lambda: 1.0)
    except ArithmeticError:
        pass  # for this value of the baseline only
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError("bad_condition", condition=text) from error
    return Condition(text.strip(), found[1], found[2], limit)


def _evaluate(node: ast.expr, baseline: Callable[[], float]) -> float:
    """Evaluate an expression. ValueError if it contains anything but numbers, `baseline` and the four operations."""
    match node:
        case ast.Constant(int() | float() as value) if not isinstance(value, bool):
            return float(value)
        case ast.Name(name) if name == _BASELINE:
            return baseline()
        case ast.UnaryOp(ast.USub(), operand):
            return -_evaluate(operand, baseline)
        case ast.BinOp(left, kind, right) if type(kind) in _OPERATORS:
            return _OPERATORS[type(kind)](_evaluate(left, baseline), _evaluate(right, baseline))
    raise ValueError(f"not part of a condition: {ast.dump(node)[:100]}")
