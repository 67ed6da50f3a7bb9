"""The set-up, the list and the chat with a real `mlflow server`, which keeps models in an artifact store of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

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

_STARTS_WITHIN = 120  # seconds


@dataclass(frozen=True)
class Server:
    """A tracking server that may be started and stopped, always at the same address, with the same files."""

    folder: Path
    port: int

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        """It answers within the block, and is gone after it."""
        self.folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}", "--workers", "1"]
        command += ["--serve-artifacts", "--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                # Its job runner, which the app does not use, starts seven processes that poll.
                env=environment(self.folder, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait(process)
            yield process
        finally:
            stop(process)

    def _wait(self, process: "subprocess.Popen[bytes]") -> None:
        end = time.monotonic() + _STARTS_WITHIN
        while not self._answers():
            assert process.poll() is None, (self.folder / "server.log").read_text(encoding="utf-8")
            assert time.monotonic() < end, "the server does not answer"
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as response:
                return bool(response.read() == b"OK")
        except (URLError, OSError):
            return False


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server with its workers."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(frozen=True)
class App:
    """The app's commands in a folder of their own, with their own home, and the server as the store."""

    folder: Path
    server: Server

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def stands(self) -> Path:
        """Where the commands stand: what a careless store leaves there would be found."""
        return self.folder / "stands"

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        self.stands.mkdir(exist_ok=True)
        # A person waits for a server that is restarting; here it is known to be gone.
        more = {"MLFLOW_TRACKING_URI": self.server.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [sys.executable, "-m", "phi3_ui", *arguments],
            cwd=self.stands,
            env=environment(self.home, **more),
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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    made = App(folder, Server(folder / "server", port))
    weights.link_into(made.home)
    return made


@pytest.fixture(scope="module")
def interrupted(app: App) -> subprocess.CompletedProcess[str]:
    """A set-up whose server stopped while it logged the first model."""
    words = tr("en", "setup.log_pipeline")
    with app.server.running() as server, app.start("setup") as process:
        assert process.stdout
        seen = next(line for line in process.stdout if words in line)
        stop(server)
        out, err = process.communicate()
    return subprocess.CompletedProcess("setup", process.returncode, seen + out, err)


@pytest.fixture(scope="module")
def server(app: App, interrupted: subprocess.CompletedProcess[str]) -> Iterator[Server]:
    """The server again, with both models in it, by the same set-up."""
    with app.server.running():
        done = app.run("setup")
        assert done.returncode == 0, done.stdout + done.stderr
        yield app.server


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (sentence,) = done.stderr.strip().splitlines()
    return sentence


def test_a_server_that_stops_midway_is_one_sentence(app: App, interrupted: subprocess.CompletedProcess[str]) -> None:
    sentence = one_sentence(interrupted)
    assert sentence.startswith(f"The tracking store {app.server.uri} does not answer")
    assert "MLFLOW_TRACKING_URI" in sentence


def test_the_set_up_goes_on_and_logs_both_models_there(app: App, server: Server) -> None:
    listed = app.run("list", "--json")
    assert listed.returncode == 0, listed.stderr
    entries = json.loads(listed.stdout)
    assert sorted(entry["contract"] for entry in entries) == ["chat", "prompt"]
    assert {entry["tracking_uri"] for entry in entries} == {server.uri}
    client = MlflowClient(server.uri)
    for entry in entries:
        run = client.get_run(entry["run_id"])
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
        assert run.info.status == "FINISHED"
        assert client.get_registered_model(entry["name"]).aliases["champion"] == "1"


def test_the_models_lie_with_the_server_and_nowhere_else(app: App, server: Server) -> None:
    kept = [file.name for file in (server.folder / "artifacts").rglob("*") if file.is_file()]
    assert kept.count("MLmodel") == 2
    assert {"model.safetensors", "model.onnx.data"} <= set(kept)
    assert list(app.stands.iterdir()) == []
    assert not {"mlflow.db", "mlruns", "mlartifacts", "artifacts"} & {path.name for path in app.home.iterdir()}
    assert not list(app.home.rglob("*.safetensors")) + list(app.home.rglob("*.onnx"))


@pytest.mark.parametrize("contract", ["chat", "prompt"])
def test_a_model_comes_over_http_and_answers(app: App, server: Server, contract: str) -> None:
    entry = next(entry for entry in Catalogue(server.uri).list_models() if entry.contract == contract)
    spec = ModelSpec(entry.model_id, entry.name, entry.uri, entry.contract, entry.tracking_uri)
    hosted = HostedModel(spec, app.folder / "logs")
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


def test_plain_mlflow_loads_what_the_server_keeps(server: Server) -> None:
    mlflow.set_tracking_uri(server.uri)
    entry = next(entry for entry in Catalogue(server.uri).list_models() if entry.contract == "prompt")
    model = mlflow.pyfunc.load_model(f"models:/{entry.name}@champion")
    (text,) = model.predict({"prompt": "Once upon a time"}, params={"max_tokens": 4, "temperature": 0.0})
    assert text


def test_a_server_that_is_gone_is_one_sentence(app: App) -> None:
    gone = App(app.folder / "gone", Server(app.folder / "nobody", 9))
    gone.folder.mkdir()
    sentence = one_sentence(gone.run("list"))
    assert sentence.startswith("The tracking store http://127.0.0.1:9 does not answer")
    assert "MLFLOW_TRACKING_URI" in sentence
