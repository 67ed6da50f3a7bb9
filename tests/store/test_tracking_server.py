"""Setup, list and chat against a real `mlflow server`, which stores models in its own artifact store."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from phi3_ui.chat.types import CancelToken, ChatRequest, Completed, GenerationParams, Message
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.i18n.translate import tr
from phi3_ui.paths import ROOT
from phi3_ui.store.registry.catalogue import Catalogue
from tests.conftest import Weights
from tests.support.env import environment
from tests.support.tracking_server import Server, find_free_port, stop
from tests.support.trust import strict_admission


@dataclass(frozen=True)
class App:
    """The app's commands, with their own home folder and the server as the tracking store."""

    folder: Path
    server: Server

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def working_folder(self) -> Path:
        """The working folder of the commands, which must stay empty."""
        return self.folder / "cwd"

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        self.working_folder.mkdir(exist_ok=True)
        # MLflow retries for minutes in case the server is restarting; here it never is.
        variables = {
            "MLFLOW_TRACKING_URI": self.server.uri,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "PYTHONPATH": str(ROOT),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "phi3_ui", *arguments],
            cwd=self.working_folder,
            env=environment(self.home, **variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments) as process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, weights: Weights) -> App:
    folder = tmp_path_factory.mktemp("remote")
    app = App(folder, Server(folder / "server", find_free_port()))
    weights.link_into(app.home)
    return app


@pytest.fixture(scope="module")
def interrupted_setup(app: App) -> subprocess.CompletedProcess[str]:
    """The result of a setup during which the server was killed, while the first model was logged."""
    stage = tr("en", "setup.log_onnx")
    with app.server.running() as server, app.start("setup") as process:
        assert process.stdout
        line = next(line for line in process.stdout if stage in line)
        stop(server)
        out, err = process.communicate()
    return subprocess.CompletedProcess("setup", process.returncode, line + out, err)


@pytest.fixture(scope="module")
def server(app: App, interrupted_setup: subprocess.CompletedProcess[str]) -> Iterator[Server]:
    """The restarted server, which has both models after the setup was run again."""
    with app.server.running():
        result = app.run("setup")
        assert result.returncode == 0, result.stdout + result.stderr
        yield app.server


def _error_line(result: subprocess.CompletedProcess[str]) -> str:
    """Return the only line that a failed command wrote to stderr."""
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (line,) = result.stderr.strip().splitlines()
    return line


def test_a_server_killed_during_setup_is_a_one_line_error(
    app: App, interrupted_setup: subprocess.CompletedProcess[str]
) -> None:
    line = _error_line(interrupted_setup)
    assert line.startswith(f"The tracking store {app.server.uri} does not answer")
    assert "MLFLOW_TRACKING_URI" in line


def test_setup_resumes_and_logs_both_models_to_the_server(app: App, server: Server) -> None:
    listed = app.run("list", "--json")
    assert listed.returncode == 0, listed.stderr
    entries = json.loads(listed.stdout)
    assert sorted(entry["contract"] for entry in entries) == ["chat", "prompt"]
    assert {entry["tracking_uri"] for entry in entries} == {server.uri}
    assert {entry["folder"] for entry in entries} == {None}
    client = MlflowClient(server.uri)
    for entry in entries:
        run = client.get_run(entry["run_id"])
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
        assert run.info.status == "FINISHED"
        assert client.get_registered_model(entry["name"]).aliases["champion"] == "1"


def test_models_are_stored_on_the_server_only(app: App, server: Server) -> None:
    stored = [file.name for file in (server.folder / "artifacts").rglob("*") if file.is_file()]
    assert stored.count("MLmodel") == 2
    assert {"model.safetensors", "model.onnx.data"} <= set(stored)
    assert list(app.working_folder.iterdir()) == []
    assert not {"mlflow.db", "mlruns", "mlartifacts", "artifacts"} & {path.name for path in app.home.iterdir()}
    assert not list(app.home.rglob("*.safetensors")) + list(app.home.rglob("*.onnx"))


@pytest.mark.parametrize("contract", ["chat", "prompt"])
def test_a_model_is_downloaded_over_http_and_answers(app: App, server: Server, contract: str) -> None:
    entry = next(entry for entry in Catalogue(server.uri).list_models() if entry.contract == contract)
    spec = ModelSpec(entry.model_id, entry.name, entry.uri, entry.contract, entry.tracking_uri)
    hosted = HostedModel(spec, app.folder / "logs", strict_admission(app.folder).admit)
    try:
        messages = (
            Message("system", "You answer in one short sentence."),
            Message("user", "What is the capital of France?"),
        )
        request = ChatRequest(messages, GenerationParams(max_tokens=12, temperature=0.0))
        *_, completed = hosted.answer(request, CancelToken())
    finally:
        hosted.unload()
    assert isinstance(completed, Completed)
    assert completed.text == "The capital of France is Paris."
    assert completed.usage
    assert completed.usage.completion_tokens == 8


def test_plain_mlflow_loads_a_model_from_the_server(server: Server) -> None:
    mlflow.set_tracking_uri(server.uri)
    entry = next(entry for entry in Catalogue(server.uri).list_models() if entry.contract == "prompt")
    model = mlflow.pyfunc.load_model(f"models:/{entry.name}@champion")
    (text,) = model.predict({"prompt": "Once upon a time"}, params={"max_tokens": 4, "temperature": 0.0})
    assert text


def test_an_unreachable_server_is_a_one_line_error(app: App) -> None:
    unreachable = App(app.folder / "unreachable", Server(app.folder / "no-server", 9))
    unreachable.folder.mkdir()
    line = _error_line(unreachable.run("list"))
    assert line.startswith("The tracking store http://127.0.0.1:9 does not answer")
    assert "MLFLOW_TRACKING_URI" in line
