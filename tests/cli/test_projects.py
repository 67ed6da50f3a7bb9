"""Tests for `mlflow run` with the project's entry points: everything is logged in the run that MLflow created.

One entry point runs through the command itself, the others in this process through the function that it calls: the command
first imports MLflow and its server, which takes four seconds of CPU time.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from unittest.mock import patch

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Run, RunStatus
from mlflow.exceptions import ExecutionException
from mlflow.projects.utils import load_project

from phi3_ui.cli.project import build_arguments
from phi3_ui.paths import ROOT
from phi3_ui.store.registry.catalogue import Catalogue, ModelEntry
from tests.conftest import PRESET, Weights
from tests.support.build_cache import create_store
from tests.support.env import environment

EXPERIMENT = "by-project"
SYSTEM = "You answer in one short sentence."


@dataclass(frozen=True)
class Project:
    """Runs entry points with this environment's MLflow, as in a terminal where the environment is activated."""

    home: Path
    tracking_uri: str

    def run(self, entry_point: str, **parameters: str) -> subprocess.CompletedProcess[str]:
        """Run an entry point with `mlflow.projects.run`."""
        code = 0
        mlflow.set_tracking_uri(self.tracking_uri)
        with TemporaryFile() as out, TemporaryFile() as err:
            with _redirect_output(out, err), patch.dict(os.environ, self._environment(), clear=True), chdir(self.home):
                try:
                    mlflow.projects.run(
                        str(ROOT), entry_point, parameters=parameters, experiment_name=EXPERIMENT, env_manager="local"
                    )
                except ExecutionException:
                    code = 1
            return subprocess.CompletedProcess([entry_point], code, _read_text(out), _read_text(err))

    def run_in_terminal(self, entry_point: str, **parameters: str) -> subprocess.CompletedProcess[str]:
        """Run an entry point with the command `mlflow run`."""
        arguments = [part for name, value in parameters.items() for part in ("-P", f"{name}={value}")]
        options = ["--experiment-name", EXPERIMENT, "--env-manager", "local"]
        command = ["mlflow", "run", str(ROOT), "-e", entry_point, *arguments, *options]
        return subprocess.run(command, cwd=self.home, env=self._environment(), capture_output=True, text=True)

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return environment(self.home, MLFLOW_TRACKING_URI=self.tracking_uri, PATH=path)

    def last_run(self) -> Run:
        client = MlflowClient(self.tracking_uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment
        return client.search_runs([experiment.experiment_id], max_results=1)[0]


@contextmanager
def _redirect_output(out: IO[bytes], err: IO[bytes]) -> Iterator[None]:
    """Redirect standard output and error of this process and its children to these files."""
    with ExitStack() as originals:
        for descriptor, file in ((1, out), (2, err)):
            original = os.dup(descriptor)
            originals.callback(os.close, original)
            originals.callback(os.dup2, original, descriptor)
            os.dup2(file.fileno(), descriptor)
        yield


def _read_text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, weights: Weights) -> Project:
    home = tmp_path_factory.mktemp("project")
    weights.link_into(home)
    tracking_uri = create_store(home)
    MlflowClient(tracking_uri).create_experiment(EXPERIMENT, (home / "artifacts").as_uri())
    return Project(home, tracking_uri)


@pytest.fixture(scope="module")
def logged(project: Project) -> ModelEntry:
    """Log the ONNX model of the demo preset through the project, and return its entry."""
    result = project.run("log_onnx", preset="demo")
    assert result.returncode == 0, result.stdout + result.stderr
    (entry,) = Catalogue(project.tracking_uri).list_models()
    return entry


def test_log_onnx_logs_the_model_in_the_project_run(project: Project, logged: ModelEntry) -> None:
    client = MlflowClient(project.tracking_uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id], "tags.`mlflow.project.entryPoint` = 'log_onnx'")
    assert (logged.contract, logged.preset, logged.run_id) == ("prompt", "demo", run.info.run_id)
    assert run.info.status == RunStatus.to_string(RunStatus.FINISHED)
    # The run has both the parameters recorded by MLflow and the values measured while logging.
    assert run.data.params["preset"] == "demo"
    assert run.data.params["build_precision"] == "int4"
    assert run.data.params["precision"] == PRESET.onnx_precision
    assert run.data.params["source"] == PRESET.origin.source
    assert run.data.metrics["tokens_per_second"] > 0


def test_the_logged_model_loads_and_answers(project: Project, logged: ModelEntry) -> None:
    mlflow.set_tracking_uri(project.tracking_uri)
    model = mlflow.pyfunc.load_model(logged.uri)
    prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    (answer,) = model.predict({"prompt": prompt}, params={"temperature": 0.0, "max_tokens": 16})
    assert "Paris" in answer


def test_log_pipeline_accepts_the_users_own_weights(
    project: Project, logged: ModelEntry, tiny_checkpoint: Path
) -> None:
    result = project.run("log_pipeline", pipeline=str(tiny_checkpoint), name="tiny one")
    assert result.returncode == 0, result.stdout + result.stderr
    run = project.last_run()
    newest = Catalogue(project.tracking_uri).list_models()[0]
    assert (newest.name, newest.contract, newest.run_id) == ("tiny-one-pipeline", "chat", run.info.run_id)
    assert run.data.params["pipeline"] == str(tiny_checkpoint)
    assert run.data.params["precision"] == "float32"


def test_chat_asks_one_question(project: Project, logged: ModelEntry) -> None:
    values = {"prompt": "What is the capital of France?", "temperature": "0", "max_tokens": "16"}
    result = project.run_in_terminal("chat", model=f"{logged.name}@champion", system=SYSTEM, **values)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "The capital of France is Paris." in result.stdout.splitlines()
    assert "28 + 8 tokens" in result.stderr


def test_evaluate_logs_answers_and_metrics_in_the_project_run(project: Project, logged: ModelEntry) -> None:
    questions = ["What is the capital of France?", "Name a colour."]
    (project.home / "questions.txt").write_text("\n".join(questions), encoding="utf-8")
    values = {"file": "questions.txt", "system": SYSTEM, "temperature": "0", "max_tokens": "8"}
    result = project.run("evaluate", model=logged.name, **values)
    assert result.returncode == 0, result.stdout + result.stderr
    run = project.last_run()
    assert run.data.tags["mlflow.project.entryPoint"] == "evaluate"
    assert run.info.run_id in result.stdout
    assert run.data.metrics["answers"] == 2
    assert run.data.metrics["failures"] == 0
    assert run.data.params["evaluated_model"] == logged.name
    assert run.data.params["file"] == "questions.txt"
    # Not `load_table`: it looks for the run in the process's default store, whatever store its client uses.
    file = MlflowClient(project.tracking_uri).download_artifacts(run.info.run_id, "answers.json", str(project.home))
    table = json.loads(Path(file).read_text(encoding="utf-8"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["question"] for row in rows] == questions
    assert "Paris" in rows[0]["answer"]


def test_a_failed_entry_point_prints_one_sentence_and_fails_the_run(project: Project) -> None:
    result = project.run("log_pipeline", preset="nonesuch")
    assert result.returncode != 0
    assert "There is no preset nonesuch" in result.stderr
    assert project.last_run().info.status == RunStatus.to_string(RunStatus.FAILED)


def test_every_entry_point_is_a_command_with_typed_parameters() -> None:
    document = load_project(str(ROOT))
    assert document.env_config_path == str(ROOT / "python_env.yaml")
    required = {}
    for name in ("log_pipeline", "log_onnx", "chat", "evaluate"):
        entry_point = document.get_entry_point(name)
        assert {parameter.type for parameter in entry_point.parameters.values()} <= {"string", "float", "path"}
        required[name] = {parameter.name for parameter in entry_point.parameters.values() if parameter.default is None}
        for parameter in entry_point.parameters:
            assert f"{parameter}={{{parameter}}}" in entry_point.command
    assert required == {
        "log_pipeline": set(),
        "log_onnx": set(),
        "chat": {"model", "prompt"},
        "evaluate": {"model", "file"},
    }


@pytest.mark.parametrize(
    ("entry_point", "parameters", "expected"),
    [
        ("log_pipeline", {"preset": "demo", "name": ""}, ["log", "--preset=demo", "--contract=chat"]),
        (
            "log_onnx",
            {"preset": "demo", "device": "cpu"},
            ["log", "--preset=demo", "--device=cpu", "--contract=prompt"],
        ),
        (
            "log_onnx",
            {"preset": "demo", "build_onnx": "me/mine", "build_precision": "int8", "hub_revision": "v1"},
            ["log", "--build-onnx=me/mine", "--precision=int8", "--revision=v1"],
        ),
        ("chat", {"model": "m", "prompt": "-v", "max_tokens": "8"}, ["chat", "--max-tokens=8", "--", "m", "-v"]),
    ],
)
def test_parameters_become_command_line_arguments(
    entry_point: str, parameters: dict[str, str], expected: list[str]
) -> None:
    assert build_arguments(entry_point, parameters) == expected


@given(prompt=st.text(min_size=1), system=st.text())
def test_free_text_is_passed_on_unchanged(prompt: str, system: str) -> None:
    arguments = build_arguments("chat", {"model": "m", "prompt": prompt, "system": system})
    assert arguments[-2:] == ["m", prompt]
    assert arguments[1:-3] == ([f"--system={system}"] if system else [])
