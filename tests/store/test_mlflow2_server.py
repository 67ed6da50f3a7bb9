"""The app on a real server of MLflow 2.22.1, which has no logged models and no traces that the app can read."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from models.store_features import StoreFeatures, find_features
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.doctor import diagnose
from tests.conftest import run_program
from tests.support import mlflow2
from tests.support.command_line import RunCommand
from tests.support.run_artifacts import log_say_model, register_artifact
from tests.support.tiny_models import TinyModels, Variant
from tests.support.tracking_server import Server, find_free_port

pytestmark = [
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:FutureWarning"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a registered chat model, and one that is only a run artifact."""
    folder = tmp_path_factory.mktemp("mlflow2")
    server = Server(folder / "server", find_free_port(), str(mlflow2.ensure()))
    with server.running():
        client = MlflowClient(server.uri)
        run = log_say_model(client, folder / "saved", "say")
        register_artifact(client, "legacy-say", f"{run.info.artifact_uri}/model", run)
        client.set_registered_model_alias("legacy-say", "champion", "1")
        log_say_model(client, folder / "saved", "draft", is_listed=True)
        yield server


def test_missing_features_of_the_server_are_detected(server: Server) -> None:
    assert find_features(server.uri) == StoreFeatures(logged_models=False, traces=False)


def test_models_can_be_listed_used_and_evaluated_and_chats_are_stored_locally(
    server: Server, run_command: RunCommand, tmp_path: Path
) -> None:
    store = {"MLFLOW_TRACKING_URI": server.uri}
    listed = run_command(tmp_path, "list", "--json", **store).json()
    assert {"legacy-say", "draft"} <= {entry["name"] for entry in listed}

    for name in ("legacy-say", "draft"):
        assert run_command(tmp_path, "trust", name, "--approve", **store).returncode == 0
    chat = run_command(tmp_path, "chat", "legacy-say@champion", "Hi", **store)
    assert chat.returncode == 0, chat.stderr
    assert chat.stdout.strip() == "You said: Hi"
    assert f"The tracking store {server.uri} does not store traces" in chat.stderr
    local = MlflowClient(f"sqlite:///{tmp_path / 'chats.db'}")
    experiment = local.get_experiment_by_name("phi3-chat")
    assert experiment
    (trace,) = local.search_traces(locations=[experiment.experiment_id])
    assert (trace.info.request_preview, trace.info.response_preview) == ("Hi", "You said: Hi")

    questions = tmp_path / "questions.txt"
    questions.write_text("One\nTwo\n")
    evaluation = run_command(tmp_path, "evaluate", "draft", str(questions), "--json", **store).json()
    run = MlflowClient(server.uri).get_run(evaluation["run_id"])
    assert (run.data.metrics["answers"], run.info.status) == (2.0, "FINISHED")


@pytest.mark.parametrize(("kind", "contract"), [("onnx", "prompt"), ("pipeline", "chat")])
def test_both_kinds_are_logged_as_artifacts_of_their_run_and_registered(
    server: Server, tiny_models: TinyModels, kind: str, contract: str
) -> None:
    variant = Variant("<|end|>")
    folder = tiny_models.onnx(variant) if kind == "onnx" else tiny_models.checkpoint(variant)
    options = ["--precision", "fp32"] if kind == "onnx" else []
    store = ["--tracking-uri", server.uri, "--name", "tiny", "--source", "here"]
    output = run_program(f"models.log_{kind}", "--folder", folder, "--no-measure", "--events", *store, *options)
    name = f"tiny-{kind}"
    assert json.loads(output.splitlines()[-1])["result"]["model_id"] == f"{name}/1"

    entry = Catalogue(server.uri).find(f"{name}@champion")
    assert (entry.contract, entry.uri) == (contract, f"models:/{name}/1")
    assert diagnose(server.uri, entry.model_id).severity == "ok"
    run = MlflowClient(server.uri).get_run(str(entry.run_id))
    assert (run.info.status, run.data.tags["contract"]) == ("FINISHED", contract)
    assert sorted(os.listdir(server.folder / "artifacts" / run.info.experiment_id / run.info.run_id / "artifacts")) == [
        name
    ]
