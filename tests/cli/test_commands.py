"""The command line as a person and a script use it: real processes over a real store, with a tiny random model in both forms."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from phi3_ui.cli.app import translate_errors
from phi3_ui.cli.main import main
from phi3_ui.errors import UserError
from phi3_ui.paths import ROOT
from phi3_ui.settings import Settings

Here = Callable[..., tuple[int, str, str]]

_COMMAND = [sys.executable, "-m", "phi3_ui"]


@dataclass(frozen=True)
class Shell:
    """Runs commands over the store of one home."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PHI3_UI", "MLFLOW"))}
        return {**kept, "PHI3_UI_HOME": str(self.home)}

    def run(self, *arguments: object, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*_COMMAND, *map(str, arguments)],
            cwd=ROOT,
            env={**self.environment, **variables},
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )

    def json(self, *arguments: object) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [*_COMMAND, *map(str, arguments)]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment,
            text=True,
            encoding="utf-8",
            # As in a terminal: a program that a script starts in the background is born deaf to Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **pipes,
        )


@pytest.fixture(scope="module")
def shell(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A home in which `log` has logged the tiny model's folders."""
    shell = Shell(tmp_path_factory.mktemp("cli"))
    done = shell.run("log", "--pipeline", tiny_checkpoint, "--onnx", tiny_onnx, "--name", "tiny")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 2, "standard output is the ids alone"
    assert "Step 2 of 2" in done.stderr
    return shell


@pytest.fixture
def here(shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Here]:
    """The same in this process, for what needs no process of its own: exit code, standard output, standard error."""
    monkeypatch.setenv("PHI3_UI_HOME", str(shell.home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    levels = {name: logging.getLogger(name).level for name in ("mlflow", "alembic")}

    def here(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments])
        out, err = capsys.readouterr()
        code = ended.value.code
        return (1, out, f"{err}{code}\n") if isinstance(code, str) else (code or 0, out, err)

    yield here
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def _json(here: Here, *arguments: str) -> Any:
    code, out, err = here(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_what_was_logged_is_listed_registered_and_found_by_each_of_its_names(shell: Shell, here: Here) -> None:
    listed = shell.json("list")
    assert {model["name"]: model["contract"] for model in listed} == {"tiny-onnx": "prompt", "tiny-pipeline": "chat"}

    onnx = next(model for model in listed if model["name"] == "tiny-onnx")
    for name in ("tiny-onnx", "tiny-onnx@champion", "tiny-onnx/1", onnx["uri"], onnx["model_id"]):
        assert _json(here, "show", name)["entry"] == onnx

    words = here("show", "tiny-onnx")[1]
    assert "Name:                tiny-onnx" in words
    assert "version 1 @champion" in words


def test_a_version_is_registered_once_and_its_alias_moved(here: Here) -> None:
    assert _json(here, "register", "tiny-pipeline") == {
        "name": "tiny-pipeline",
        "version": "1",
        "aliases": ["champion"],
    }
    _, out, _ = here("register", "tiny-pipeline", "--alias", "staging")
    assert out == "tiny-pipeline version 1 @champion @staging\n"


@pytest.mark.parametrize("model", ["tiny-onnx", "tiny-pipeline"])
def test_an_answer_is_standard_output_and_what_it_took_is_standard_error(shell: Shell, model: str) -> None:
    options = ["--temperature", "0", "--max-tokens", "8"]
    done = shell.run("chat", model, *options, "Hello there")
    again = json.loads(shell.run("chat", model, "Hello there", "--json", *options).stdout)

    assert done.returncode == 0, done.stderr
    assert done.stdout == again["answer"] + "\n"
    assert (again["completion_tokens"], again["finish_reason"], again["error"]) == (8, "length", None)
    assert done.stderr.splitlines()[-1].startswith(f"{again['prompt_tokens']} + 8 tokens · ")
    assert done.stderr.splitlines()[-1].endswith(" · cut at max tokens")


def test_questions_are_read_line_by_line_as_one_conversation(shell: Shell) -> None:
    done = shell.run("chat", "tiny-onnx", "--json", "--max-tokens", "4", stdin="Hello\n\nAnd then?\n")

    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["question"], second["question"]) == ("Hello", "And then?")
    assert second["prompt_tokens"] > first["prompt_tokens"] + 4
    client = MlflowClient(f"sqlite:///{shell.home / 'mlflow.db'}")
    traces = client.search_traces(
        locations=[client.get_experiment_by_name("phi3-chat").experiment_id],
        filter_string="trace.status = 'OK'",
        order_by=["timestamp_ms DESC"],
        max_results=2,
    )
    assert [trace.info.request_preview for trace in traces] == ["And then?", "Hello"]
    assert len({trace.info.trace_metadata["mlflow.trace.session"] for trace in traces}) == 1


def test_ctrl_c_stops_the_answer_and_the_next_one_leaves(shell: Shell) -> None:
    with shell.start("chat", "tiny-onnx", "--temperature", "0", "--max-tokens", "4000") as chat:
        assert chat.stdin
        assert chat.stdout
        assert chat.stderr
        chat.stdin.write("Hello\n")
        chat.stdin.flush()
        assert chat.stdout.read(1), "it answers"
        chat.send_signal(signal.SIGINT)
        took = next(line for line in chat.stderr if "tokens" in line)
        assert took.endswith(" · stopped\n")
        chat.send_signal(signal.SIGINT)
        assert chat.wait(60) == 130
        assert "Traceback" not in chat.stderr.read()


def test_answers_and_figures_of_a_file_go_to_a_run(shell: Shell, tmp_path: Path) -> None:
    questions, output = tmp_path / "questions.txt", tmp_path / "answers.jsonl"
    questions.write_text("Hello\nAnd then?\n", encoding="utf-8")

    done = shell.json("evaluate", "tiny-onnx", questions, "--output", output, "--max-tokens", "4", "--seed", "1")

    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [row["question"] for row in rows] == ["Hello", "And then?"]
    assert {row["completion_tokens"] for row in rows} == {4}
    assert (done["metrics"]["answers"], done["metrics"]["completion_tokens"]) == (2, 8)
    assert len(done["run_id"]) == 32


@pytest.mark.parametrize("form", ["onnx", "pipeline"])
def test_the_doctor_logs_again_what_it_finds_ill_and_the_old_one_is_removed(
    shell: Shell, here: Here, form: str
) -> None:
    before = _json(here, "show", f"tiny-{form}")
    assert _json(here, "doctor", f"tiny-{form}")["severity"] == "ok"

    done = shell.run("doctor", f"tiny-{form}", "--relog")

    assert done.returncode == 0, done.stderr
    after = _json(here, "show", f"tiny-{form}")
    assert after["entry"]["model_id"] == done.stdout.strip() != before["entry"]["model_id"]
    assert [(v["version"], v["aliases"]) for v in after["versions"]] == [("2", ["challenger"])]
    for fact in ("title", "license", "context_length", "signature"):
        assert after[fact] == before[fact]
    for param in ("source", "precision"):
        assert after["run"]["params"][param] == before["run"]["params"][param]
    assert not list((shell.home / "models").rglob("*.*")), "nothing is left of what was put together"

    stored = shell.home / "artifacts" / "models" / after["entry"]["model_id"] / "artifacts"
    lost = next(stored.rglob("tokenizer.json"))
    lost.unlink()
    ill, out, _ = here("doctor", f"tiny-{form}/2", "--json")
    assert ill == 1
    assert json.loads(out)["findings"][0]["code"] in ("file_missing", "files_truncated")
    assert here("doctor", f"tiny-{form}@champion")[0] == 0

    kept = shell.run("remove", f"tiny-{form}")
    assert (kept.returncode, "Add --yes" in kept.stderr, stored.exists()) == (1, True, True)
    assert here("remove", f"tiny-{form}/2", "--yes")[0] == 0
    assert not stored.exists()
    assert _json(here, "show", f"tiny-{form}")["entry"] == before["entry"]


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
def test_what_cannot_be_done_is_one_sentence(here: Here, arguments: list[str], sentence: str) -> None:
    code, out, err = here(*arguments)

    assert (code, out) == (1, "")
    assert sentence in err
    assert len(err.splitlines()) == 1


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
def test_wrong_usage_is_said_as_such(here: Here, arguments: list[str]) -> None:
    code, _, err = here(*arguments)

    assert code == 2
    assert err.startswith("Usage: python -m phi3_ui")


def test_a_store_that_does_not_answer_and_a_home_that_is_no_folder_are_one_sentence(tmp_path: Path) -> None:
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = Shell(tmp_path).run("list", **away)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "does not answer" in done.stderr

    file = tmp_path / "file"
    file.touch()
    done = Shell(file / "home").run("list")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize(("to", "code", "said"), [("&-", 0, ""), ("/dev/full", 1, "Could not write the output")])
def test_an_output_that_is_closed_or_full_is_no_trace(shell: Shell, to: str, code: int, said: str) -> None:
    command = f"{sys.executable} -m phi3_ui list >{to}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=shell.environment, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert said in done.stderr


def test_an_empty_list_says_what_fills_it(tmp_path: Path) -> None:
    done = Shell(tmp_path).run("list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "`python -m phi3_ui setup`" in done.stderr


def test_what_a_model_declares_cannot_be_picked_and_an_empty_question_not_be_asked(here: Here) -> None:
    code, _, said = here("chat", "tiny-onnx", "Hi", "--template", "plain")
    assert (code, "does not support --template" in said) == (1, True)
    code, _, said = here("chat", "tiny-onnx", " ")
    assert (code, "question is empty" in said) == (1, True)
    code, _, said = here("chat", "tiny-onnx", "Hi", "--template", "nope")
    assert (code, "'phi-3', 'chatml', 'llama-3', 'plain'" in said) == (2, True)


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
def test_whatever_a_command_raises_is_one_sentence(tmp_path: Path, error: Exception, code: str) -> None:
    settings = Settings.read({"PHI3_UI_HOME": str(tmp_path)})
    settings.logs.mkdir()

    with pytest.raises(UserError) as raised, translate_errors(settings):
        raise error

    assert raised.value.code == code
