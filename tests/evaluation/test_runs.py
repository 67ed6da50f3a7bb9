"""Runs that other programs write to the experiment of the evaluations."""

from typing import Any

import pytest
from mlflow.entities import Param, Run, RunData, RunInfo, RunTag

from phi3_ui.evaluation.runs import _parse_runs


def _run(start_time: Any = 1_700_000_000_000, number: str = "0", **params: str) -> Run:
    info = RunInfo("r-1", "1", "somebody", "FINISHED", start_time, None, "active")
    tags = [RunTag("phi3_ui.evaluation", "e1"), RunTag("phi3_ui.candidate", number)]
    return Run(info, RunData([], [Param(name, value) for name, value in params.items()], tags))


@pytest.mark.parametrize(
    "invalid",
    [
        _run(number="x"),
        _run(number="9" * 5000),
        _run(questions="many"),
        _run(repeats="nan"),
        _run(prompt_set_version=""),
        _run(start_time=10**18),
        _run(start_time=-(10**18)),
    ],
)
def test_a_run_that_is_not_an_evaluation_is_ignored(invalid: Run) -> None:
    assert [run.started_at for run in _parse_runs([invalid, _run()])] == [1_700_000_000]
