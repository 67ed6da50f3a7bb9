"""Tests for `evaluate --set` on a real store and registry. Answers come from lookup tables: no model process is started."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow import MlflowClient

from phi3_ui.addresses import sqlite_uri
from phi3_ui.cli import app as cli
from phi3_ui.evaluation.running import RunningEvaluation
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.store.registry.versions import Registry
from phi3_ui.testing import log_scripted_model
from tests.support.build_cache import create_store
from tests.support.command_line import CommandResult, RunCommand
from tests.support.evaluating import TableModel
from tests.support.trust import approve_models

_GOOD = {"France?": "Paris", "Italy?": "Rome", "Spain?": "Madrid"}


@dataclass
class Gate:
    """A store with the prompt set capitals and two versions of the model x; version 1 is the champion."""

    home: Path
    command: RunCommand
    old: TableModel = field(default_factory=lambda: TableModel(dict(_GOOD)))
    new: TableModel = field(default_factory=lambda: TableModel(dict(_GOOD)))

    def run(self, *arguments: object) -> CommandResult:
        return self.command(self.home, "evaluate", *arguments)

    def compare(self, *arguments: object) -> CommandResult:
        options = ("--set", "capitals", "--baseline", "models:/x@champion", "--candidate", "models:/x/2")
        return self.run(*options, *arguments)

    @property
    def champion(self) -> str | None:
        return Registry(sqlite_uri(self.home / "mlflow.db")).get_alias_version("x", "champion")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("gate")
    uri = create_store(home)
    registry = Registry(uri)
    for name in ("old", "new"):
        registry.register_model(log_scripted_model(uri, home, name).model_id, "x")
    approve_models(uri, home)
    return home


@pytest.fixture
def gate(home: Path, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate(home, run_command)

    class TablePool:
        """A fake pool whose models answer from lookup tables."""

        def __init__(self, *_: object) -> None:
            pass

        def get_model(self, spec: ModelSpec) -> TableModel:
            return {"old": gate.old, "new": gate.new}[spec.name]

        def close(self) -> None:
            pass

    monkeypatch.setattr(cli, "Pool", TablePool)
    Registry(sqlite_uri(home / "mlflow.db")).promote("x", "1", "champion")
    if "capitals" not in run_command(home, "prompt-set", "list").stdout:
        file = home / "capitals.csv"
        rows = "".join(f"{question},{answer}\n" for question, answer in _GOOD.items())
        file.write_text(f"prompt,expected_response\n{rows}", encoding="utf-8")
        assert run_command(home, "prompt-set", "create", "capitals", file).returncode == 0
    return gate


def test_a_candidate_that_passes_is_promoted(gate: Gate, tmp_path: Path) -> None:
    gate.old.answers["France?"] = "Lyon"
    junit = tmp_path / "junit.xml"

    result = gate.compare("--fail-if", "exact_match < baseline - 0.02", "--promote", "--junit", junit)

    assert result.returncode == 0, result.stderr
    assert gate.champion == "2"
    assert "x@champion is now version 2" in result.stdout
    assert "models:/x/2 has passed" in result.stdout
    assert 'tests="1" failures="0"' in junit.read_text(encoding="utf-8")


def test_a_candidate_that_fails_is_not_promoted(gate: Gate, tmp_path: Path) -> None:
    gate.new.answers["France?"] = "Lyon"
    junit, rows = tmp_path / "junit.xml", tmp_path / "rows.jsonl"

    result = gate.compare(
        *("--fail-if", "exact_match < baseline - 0.02", "--fail-if", "p95_first_token > 1.2 * baseline"),
        *(
            "--scorer",
            "exact_match",
            "--scorer",
            "length=..3",
            "--promote",
            "--json",
            "--junit",
            junit,
            "--output",
            rows,
        ),
    )

    assert result.returncode == 1
    verdict = json.loads(result.stdout)
    assert (verdict["passed"], verdict["promoted"], gate.champion) == (False, False, "1")
    assert [condition["failed"] for condition in verdict["conditions"]] == [True, False]
    assert 'tests="2" failures="1"' in junit.read_text(encoding="utf-8")
    written = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    assert [(row["model"], row["exact_match"]) for row in written] == [
        *[("models:/x@champion", 1.0)] * 3,
        ("models:/x/2", 0.0),
        *[("models:/x/2", 1.0)] * 2,
    ]
    (run,) = [entry for entry in verdict["runs"] if entry["model"] == "models:/x/2"]
    stored = MlflowClient(sqlite_uri(gate.home / "mlflow.db")).get_run(run["run_id"])
    assert stored.data.metrics["exact_match"] == verdict["metrics"]["exact_match"] == pytest.approx(2 / 3)
    assert stored.inputs
    assert [model.model_id for model in stored.inputs.model_inputs] == [run["model_id"]]


def test_promotion_fails_if_the_alias_moved_during_the_evaluation(gate: Gate) -> None:
    registry = Registry(sqlite_uri(gate.home / "mlflow.db"))
    gate.new.on_request = lambda _: registry.promote("x", "2", "champion")

    result = gate.compare("--promote")

    assert result.returncode == 1
    assert "was moved during the evaluation" in result.stderr


def test_an_evaluation_interrupted_by_ctrl_c_can_be_resumed(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    wait_for_change = RunningEvaluation.wait_for_change
    monkeypatch.setattr(RunningEvaluation, "wait_for_change", interrupt)
    interrupted = gate.compare()
    assert interrupted.returncode == 130
    evaluation = interrupted.stderr.split("Evaluation ")[1][:32]
    assert f"evaluate --resume {evaluation}" in interrupted.stderr
    monkeypatch.setattr(RunningEvaluation, "wait_for_change", wait_for_change)

    resumed = gate.run("--resume", evaluation, "--fail-if", "exact_match < baseline")
    assert (resumed.returncode, "models:/x/2 has passed" in resumed.stdout) == (0, True), resumed.stderr


@pytest.mark.parametrize(
    ("create_options", "sentence"),
    [
        (lambda: ("--fail-if", "nonsense"), "is not a condition"),
        (lambda: ("--fail-if", "none < 1"), "There is no metric none"),
    ],
)
def test_invalid_conditions_are_usage_errors(
    gate: Gate, create_options: Callable[[], tuple[str, ...]], sentence: str
) -> None:
    result = gate.compare(*create_options())

    assert result.returncode == 2
    assert sentence in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Give MODEL and FILE"),
        (("x",), "Give MODEL and FILE"),
        (("x", "q.txt", "--promote"), "Give MODEL and FILE"),
        (("--set", "capitals"), "Give a MODEL"),
        (("x/2", "--set", "capitals", "--chat", "chat.json"), "not both"),
        (("--set", "capitals", "--candidate", "x/2", "--fail-if", "exact_match < baseline"), "needs --baseline"),
        (("--set", "capitals", "x/2", "--fail-if", "exact_match < 1"), "need --candidate"),
        (("--set", "capitals", "--baseline", "x/1"), "needs --candidate"),
        (("--set", "capitals", "--candidate", "x/2", *("--preset", "precise") * 2), "only one --preset"),
        (("--set", "capitals", "--candidate", "x/2", "--promote"), "--promote needs"),
        (("--set", "capitals", "--baseline", "x/1", "--candidate", "x/2", "--promote"), "--promote moves an alias"),
    ],
)
def test_contradictory_options_are_usage_errors(gate: Gate, arguments: tuple[str, ...], sentence: str) -> None:
    result = gate.run(*arguments)

    assert (result.returncode, sentence in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("x/2", "--set", "none"), "no prompt set none"),
        (("x/9", "--set", "capitals"), "no chat model x/9"),
        (("x/2", "--set", "capitals", "--scorer", "odd"), "odd is not a scorer"),
        (("x/2", "--set", "capitals", "--scorer", "json_schema=@none.json"), "none.json cannot be read"),
        (("x/2", "--set", "capitals", "--own-scorer", "none.py:f"), "no scorer"),
        (("x/2", "--set", "capitals", "--judge", "http://127.0.0.1:9/v1"), "is not a valid judge"),
        (("--resume", "f" * 32), "no evaluation"),
        (("x/2", "--chat", "none.json"), "none.json: No such file"),
    ],
)
def test_an_evaluation_that_cannot_start_reports_the_reason(
    gate: Gate, arguments: tuple[str, ...], sentence: str
) -> None:
    result = gate.run(*arguments)

    assert (result.returncode, sentence in result.stderr) == (1, True), result.stderr


def test_several_models_are_evaluated_without_a_gate(gate: Gate) -> None:
    gate.new.answers["France?"] = "Lyon"

    result = gate.run("x/1", "x/2", "--set", "capitals/1", "--repeats", "2")

    assert result.returncode == 0, result.stderr
    assert result.stdout.count("exact_match/low") == 2
    assert "has passed" not in result.stdout, "a verdict without a gate"
    assert len(gate.new.requests) == 6


def test_a_model_is_evaluated_with_each_preset(gate: Gate) -> None:
    result = gate.run("x/2", "--set", "capitals", "--preset", "precise", "--preset", "creative", "--temperature", "0.5")

    assert result.returncode == 0, result.stderr
    assert "x/2 (precise)" in result.stdout
    params = {(request.params.temperature, request.params.top_k) for request in gate.new.requests}
    assert params == {(0.5, 0), (0.5, 100)}, "an explicit parameter applies to every preset"


def test_a_saved_chat_is_replayed(gate: Gate, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    turns = [("France?", "Paris"), ("Italy?", "Rom")]
    messages = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    file.write_text(json.dumps(messages), encoding="utf-8")

    result = gate.run("x/2", "--chat", file, "--scorer", "exact_match", "--json")

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["metrics"]["exact_match"] == 0.5
    assert [len(request.messages) for request in gate.new.requests] == [1, 3]
