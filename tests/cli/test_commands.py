"""Tests for the command line on a real store, with a tiny random model under both contracts.

Most commands run in this process and share loaded models; a few run as separate programs, as from a shell.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from models.store_features import StoreFeatures, find_features
from phi3_ui.cli import app
from phi3_ui.cli.app import translate_errors
from phi3_ui.errors import UserError
from phi3_ui.host import pool
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.model_process import Admit
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.paths import ROOT
from phi3_ui.settings import Settings
from tests.support.build_cache import create_store
from tests.support.command_line import CommandResult, RunCommand
from tests.support.env import environment

_COMMAND = [sys.executable, "-m", "phi3_ui"]


def _run_program(home: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_COMMAND, *map(str, arguments)],
        cwd=ROOT,
        env=environment(home, **variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture(scope="module")
def home(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Log both forms of the tiny model with `log`, and return the home folder of their store."""
    create_store(home := tmp_path_factory.mktemp("cli"))
    logged = _run_program(home, "log", "--pipeline", tiny_checkpoint, "--onnx", tiny_onnx, "--name", "tiny")
    assert logged.returncode == 0, logged.stderr
    assert len(logged.stdout.split()) == 2, "standard output contains only the ids"
    assert "Step 2 of 2" in logged.stderr
    return home


class _SharedModel(HostedModel):
    """A model that ignores its pool's `unload`, so that the next command can reuse it."""

    def unload(self) -> None:
        pass

    def close(self) -> None:
        super().unload()


@pytest.fixture(scope="module")
def loaded() -> Iterator[dict[ModelSpec, _SharedModel]]:
    """Yield the models loaded by this module's commands, and unload them at the end."""
    models: dict[ModelSpec, _SharedModel] = {}
    yield models
    for model in models.values():
        model.close()


@dataclass(frozen=True)
class Commands:
    """Runs commands in this process, on the store of one home folder."""

    home: Path
    run_command: RunCommand

    def run(self, *arguments: object, stdin: str = "") -> CommandResult:
        return self.run_command(self.home, *arguments, stdin=stdin)

    def json(self, *arguments: object) -> Any:
        return self.run(*arguments, "--json").json()


@pytest.fixture
def commands(
    home: Path,
    run_command: RunCommand,
    loaded: dict[ModelSpec, _SharedModel],
    monkeypatch: pytest.MonkeyPatch,
) -> Commands:
    def load(spec: ModelSpec, logs: Path, admit: Admit, *, max_answers: int) -> HostedModel:
        if spec not in loaded:
            loaded[spec] = _SharedModel(spec, logs, admit, max_answers=max_answers)
        return loaded[spec]

    monkeypatch.setattr(pool, "HostedModel", load)
    return Commands(home, run_command)


def test_a_logged_model_is_listed_and_found_by_each_of_its_names(commands: Commands) -> None:
    listed = commands.json("list")
    assert {model["name"]: model["contract"] for model in listed} == {"tiny-onnx": "prompt", "tiny-pipeline": "chat"}

    onnx = next(model for model in listed if model["name"] == "tiny-onnx")
    for name in ("tiny-onnx", "tiny-onnx@champion", "tiny-onnx/1", onnx["uri"], onnx["model_id"]):
        assert commands.json("show", name)["entry"] == onnx

    shown = commands.run("show", "tiny-onnx").stdout
    assert "Name:                tiny-onnx" in shown
    assert "version 1 @champion" in shown


def test_registering_a_model_again_adds_an_alias_but_no_version(commands: Commands) -> None:
    assert commands.json("register", "tiny-pipeline") == {
        "name": "tiny-pipeline",
        "version": "1",
        "aliases": ["champion"],
    }
    registered = commands.run("register", "tiny-pipeline", "--alias", "staging")
    assert registered.stdout == "tiny-pipeline version 1 @champion @staging\n"


_GREEDY = ["--temperature", "0", "--max-tokens", "8"]


@pytest.mark.parametrize("model", ["tiny-onnx", "tiny-pipeline"])
def test_the_answer_goes_to_standard_output_and_its_usage_to_standard_error(commands: Commands, model: str) -> None:
    plain = commands.run("chat", model, *_GREEDY, "Hello there")
    _check_answer(plain, commands.json("chat", model, "Hello there", *_GREEDY))


def test_the_program_gives_the_same_answer_as_the_command_in_process(home: Path, commands: Commands) -> None:
    completed = _run_program(home, "chat", "tiny-onnx", *_GREEDY, "Hello there")
    result = CommandResult(completed.returncode, completed.stdout, completed.stderr)
    _check_answer(result, commands.json("chat", "tiny-onnx", "Hello there", *_GREEDY))


def _check_answer(plain: CommandResult, answer: dict[str, Any]) -> None:
    """Check that the plain output agrees with the JSON `answer`."""
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout == answer["answer"] + "\n"
    assert (answer["completion_tokens"], answer["finish_reason"], answer["error"]) == (8, "length", None)
    usage = plain.stderr.splitlines()[-1]
    assert usage.startswith(f"{answer['prompt_tokens']} + 8 tokens · ")
    assert usage.endswith(" · cut off at max tokens")


def test_questions_from_standard_input_form_one_conversation(home: Path, commands: Commands) -> None:
    result = commands.run("chat", "tiny-onnx", "--json", "--max-tokens", "4", stdin="Hello\n\nAnd then?\n")

    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert (first["question"], second["question"]) == ("Hello", "And then?")
    assert second["prompt_tokens"] > first["prompt_tokens"] + 4
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("phi3-chat")
    assert experiment
    traces = client.search_traces(
        locations=[experiment.experiment_id],
        filter_string="trace.status = 'OK'",
        order_by=["timestamp_ms DESC"],
        max_results=2,
    )
    assert [trace.info.request_preview for trace in traces] == ["And then?", "Hello"]
    assert len({trace.info.trace_metadata["mlflow.trace.session"] for trace in traces}) == 1


def test_ctrl_c_stops_the_answer_and_a_second_one_exits(home: Path) -> None:
    with subprocess.Popen(
        [*_COMMAND, "chat", "tiny-onnx", "--temperature", "0", "--max-tokens", "4000"],
        cwd=ROOT,
        env=environment(home),
        text=True,
        encoding="utf-8",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # As in a terminal: shells start background programs with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as chat:
        assert chat.stdin
        assert chat.stdout
        assert chat.stderr
        chat.stdin.write("Hello\n")
        chat.stdin.flush()
        assert chat.stdout.read(1), "the answer does not start"
        chat.send_signal(signal.SIGINT)
        usage = next(line for line in chat.stderr if "tokens" in line)
        assert usage.endswith(" · stopped\n")
        chat.send_signal(signal.SIGINT)
        assert chat.wait(60) == 130
        assert "Traceback" not in chat.stderr.read()


def test_evaluate_writes_a_file_and_a_run(commands: Commands, tmp_path: Path) -> None:
    questions, output = tmp_path / "questions.txt", tmp_path / "answers.jsonl"
    questions.write_text("Hello\nAnd then?\n", encoding="utf-8")

    evaluation = commands.json(
        "evaluate", "tiny-onnx", questions, "--output", output, "--max-tokens", "4", "--seed", "1"
    )

    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [row["question"] for row in rows] == ["Hello", "And then?"]
    assert {row["completion_tokens"] for row in rows} == {4}
    assert (evaluation["metrics"]["answers"], evaluation["metrics"]["completion_tokens"]) == (2, 8)
    assert len(evaluation["run_id"]) == 32


@pytest.mark.parametrize("form", ["onnx", "pipeline"])
def test_the_doctor_relogs_a_model_and_a_damaged_version_can_be_removed(
    home: Path, commands: Commands, form: str
) -> None:
    before = commands.json("show", f"tiny-{form}")
    assert commands.json("doctor", f"tiny-{form}")["severity"] == "ok"

    relogged = commands.run("doctor", f"tiny-{form}", "--relog")

    assert relogged.returncode == 0, relogged.stderr
    after = commands.json("show", f"tiny-{form}")
    assert after["entry"]["model_id"] == relogged.stdout.strip() != before["entry"]["model_id"]
    assert [(v["version"], v["aliases"]) for v in after["versions"]] == [("2", ["challenger"])]
    for key in ("title", "license", "context_length", "signature"):
        assert after[key] == before[key]
    for param in ("source", "precision"):
        assert after["run"]["params"][param] == before["run"]["params"][param]
    assert not list((home / "models").rglob("*.*")), "working files are left behind"

    stored = home / "artifacts" / "models" / after["entry"]["model_id"] / "artifacts"
    next(stored.rglob("tokenizer.json")).unlink()
    damaged = commands.run("doctor", f"tiny-{form}/2", "--json")
    assert damaged.returncode == 1
    assert json.loads(damaged.stdout)["findings"][0]["code"] in ("file_missing", "files_truncated")
    assert commands.run("doctor", f"tiny-{form}@champion").returncode == 0

    refused = commands.run("remove", f"tiny-{form}")
    assert (refused.returncode, "Add --yes" in refused.stderr, stored.exists()) == (1, True, True)
    assert commands.run("remove", f"tiny-{form}/2", "--yes").returncode == 0
    assert not stored.exists()
    assert commands.json("show", f"tiny-{form}")["entry"] == before["entry"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "nobody"], "The tracking store has no chat model nobody."),
        (["chat", "tiny-onnx@nobody", "hi"], "no chat model tiny-onnx@nobody."),
        (["register", "tiny-onnx", "--name", "a/b"], "a/b is not a valid name for a registered model"),
        (["register", "tiny-onnx", "--alias", "latest"], "latest is not a valid alias"),
        (["evaluate", "tiny-onnx", "none.txt"], "The questions in none.txt cannot be read (No such file"),
        (["log", "--preset", "none"], "There is no preset none"),
        (["log"], "No weights were given."),
        (["log", "--onnx", "not a source"], "neither a folder on this machine nor a Hub id"),
    ],
)
def test_an_expected_error_is_reported_in_one_sentence(commands: Commands, arguments: list[str], sentence: str) -> None:
    result = commands.run(*arguments)

    assert (result.returncode, result.stdout) == (1, "")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["chat"],
        ["chat", "tiny-onnx", "hi", "there"],
        ["chat", "tiny-onnx", "--temperature", "warm"],
        ["log", "--preset", "demo", "--onnx", "x/y"],
        ["log", "--onnx", "x/y", "--contract", "chat"],
    ],
)
def test_wrong_usage_exits_with_2(run_command: RunCommand, tmp_path: Path, arguments: list[str]) -> None:
    result = run_command(tmp_path, *arguments)

    assert result.returncode == 2
    assert result.stderr.startswith("Usage: python -m phi3_ui")


def test_the_help_lists_ranges_and_special_values(run_command: RunCommand, tmp_path: Path) -> None:
    shown = run_command(tmp_path, "chat", "--help").stdout
    assert "Range: ≥ 0. 0: no limit." in shown
    assert "Range: > 0. 1: no penalty." in shown


def _find_features_after_hint(uri: str) -> StoreFeatures:
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()
    return find_features(uri)


def test_an_unreachable_store_and_an_unusable_home_are_reported_in_one_sentence(
    run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    result = run_command(tmp_path, "list", **unreachable)
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
    assert "does not answer" in result.stderr

    # Without the variable, MLflow's client would retry for minutes. The app sets a default unless the user has set a value.
    monkeypatch.setattr(app, "_FIRST_REQUEST", {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    monkeypatch.setattr(app, "_HINT_SECONDS", 0.0)
    monkeypatch.setattr(app, "find_features", _find_features_after_hint)
    result = run_command(tmp_path, "list", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert result.returncode == 1
    hint, error = result.stderr.splitlines()
    assert hint == "Waiting for the tracking store http://127.0.0.1:9 to answer…"
    assert "does not answer" in error
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ

    file = tmp_path / "file"
    file.touch()
    result = run_command(file / "home", "list")
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
    assert "is not writable" in result.stderr


@pytest.mark.parametrize(
    ("target", "code", "sentence"), [("&-", 0, ""), ("/dev/full", 1, "Could not write the output")]
)
def test_a_closed_or_full_output_shows_no_traceback(home: Path, target: str, code: int, sentence: str) -> None:
    command = ["bash", "-c", f"{sys.executable} -m phi3_ui list >{target}"]
    completed = subprocess.run(command, cwd=ROOT, env=environment(home), capture_output=True, text=True, check=False)
    assert (completed.returncode, "Traceback" in completed.stderr) == (code, False)
    assert sentence in completed.stderr


def test_an_empty_list_names_the_command_that_fills_it(run_command: RunCommand, tmp_path: Path) -> None:
    create_store(tmp_path)
    result = run_command(tmp_path, "list")
    assert (result.returncode, result.stdout) == (0, "")
    assert "`python -m phi3_ui setup`" in result.stderr


def test_invalid_templates_and_empty_questions_are_rejected(commands: Commands) -> None:
    result = commands.run("chat", "tiny-onnx", "Hi", "--template", "plain")
    assert (result.returncode, "does not support --template" in result.stderr) == (1, True)
    result = commands.run("chat", "tiny-onnx", " ")
    assert (result.returncode, "question is empty" in result.stderr) == (1, True)
    result = commands.run("chat", "tiny-onnx", "Hi", "--template", "nope")
    assert (result.returncode, "'phi-3', 'chatml', 'llama-3', 'plain'" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PermissionError(13, "Permission denied", "/x"), "not_writable"),
        (FileNotFoundError(2, "No such file"), "unexpected"),
        (OSError(28, "No space left on device"), "output_write_failed"),
        (ValueError("odd"), "unexpected"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_every_exception_becomes_a_user_error(tmp_path: Path, error: Exception, code: str) -> None:
    settings = Settings.read({"PHI3_UI_HOME": str(tmp_path)})
    settings.logs.mkdir()

    with pytest.raises(UserError) as raised, translate_errors(settings):
        raise error

    assert raised.value.code == code
