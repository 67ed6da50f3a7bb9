"""Tests that each link into MLflow's UI opens the right entity, without a request to another host."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from mlflow import MlflowClient
from playwright.sync_api import Browser, Page, expect

from phi3_ui.chat.conversation import Answer, Turn, TurnRequest
from phi3_ui.chat.types import Message, Timings, Usage
from phi3_ui.paths import ROOT
from phi3_ui.settings import Settings
from phi3_ui.store import links
from phi3_ui.store.conversations import traces
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.conversations.operations import TurnRecord
from phi3_ui.store.conversations.recorder import Recorder
from tests.support.app_server import START_SECONDS, find_free_port, wait_until
from tests.support.build_cache import create_store
from tests.support.env import environment

_LONG_AGO = time.time() - 40 * 86_400  # older than the traces that MLflow lists by default


@dataclass(frozen=True)
class Entities:
    """The ids of the entities in the store, and the base URL of its MLflow UI."""

    base: str
    experiment: str
    run: str
    model: str
    turn: str


@pytest.fixture(scope="module")
def entities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Entities]:
    """Start MLflow's UI with the app's command, on a store with one run, logged model, registered version and chat turn."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings.read({"PHI3_UI_HOME": str(home)})
    assert settings.tracking_uri == create_store(home)
    client = MlflowClient(settings.tracking_uri)
    experiment = client.create_experiment("phi3", artifact_location=settings.artifacts)
    run = client.create_run(experiment, run_name="calm-owl").info.run_id
    logged = client.create_logged_model(experiment, name="tiny-phi", source_run_id=run)
    model = logged.model_id
    client.finalize_logged_model(model, "READY")
    client.create_registered_model("my joker")
    client.create_model_version("my joker", logged.artifact_location, run, model_id=model)
    answer = Answer("tiny-phi", "They make up everything.", Usage(10, 5), Timings(0.1, 0.5, 10.0), "stop")
    turn = Turn("Why trust no atom?", answer, request=TurnRequest(_LONG_AGO, model))
    recorder = Recorder(lambda: ChatLocation(settings.tracking_uri, experiment), home / "journal")
    recorder.submit(make_record(turn))
    assert recorder.flush(60)
    recorder.close()

    base = f"http://127.0.0.1:{find_free_port()}"
    command = [sys.executable, "-m", "phi3_ui", "mlflow-ui"]
    with (home / "out").open("wb") as out:
        variables = environment(home, PHI3_UI_MLFLOW_URL=base)
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or links.is_mlflow_ui(base), START_SECONDS)
        assert process.poll() is None, (home / "out").read_text(encoding="utf-8")
        yield Entities(base, experiment, run, model, turn.id)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=30)


def make_record(turn: Turn) -> TurnRecord:
    return TurnRecord(
        visitor_id="someone",
        conversation_id="c0ffee",
        turn=turn,
        messages=(Message("user", turn.question),),
        model_name="tiny-phi",
        app_version="0",
        ended_at=_LONG_AGO + 1,
    )


@pytest.fixture
def mlflow_page(browser: Browser, entities: Entities) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1300, "height": 800})
    requested = list[str]()
    page.on("request", lambda request: requested.append(request.url))
    yield page
    page.close()
    assert [url for url in requested if url.startswith("http") and not url.startswith(entities.base)] == []


def expect_page(page: Page, url: str, *texts: str) -> None:
    """Open `url` and check that the page shows these texts."""
    page.goto(url)
    for text in texts:
        expect(page.get_by_text(text, exact=False).first).to_be_visible(timeout=60_000)


def test_trace_link_opens_an_old_trace(mlflow_page: Page, entities: Entities) -> None:
    url = links.trace_url(entities.base, entities.experiment, traces.trace_id_for(entities.turn))

    expect_page(mlflow_page, url, "Inputs / Outputs", "Why trust no atom?", "They make up everything.")


def test_session_link_opens_the_chat(mlflow_page: Page, entities: Entities) -> None:
    url = links.session_url(entities.base, entities.experiment, "c0ffee")

    expect_page(mlflow_page, url, "Why trust no atom?", "They make up everything.")


def test_run_link_opens_the_run(mlflow_page: Page, entities: Entities) -> None:
    expect_page(mlflow_page, links.run_url(entities.base, entities.experiment, entities.run), "calm-owl", entities.run)


def test_logged_model_link_opens_the_model(mlflow_page: Page, entities: Entities) -> None:
    url = links.logged_model_url(entities.base, entities.experiment, entities.model)

    expect_page(mlflow_page, url, "About this logged model", "tiny-phi", entities.model)


def test_model_version_link_opens_the_version(mlflow_page: Page, entities: Entities) -> None:
    expect_page(
        mlflow_page, links.model_version_url(entities.base, "my joker", "1"), "my joker", "Version 1", "calm-owl"
    )


def test_evaluation_link_opens_the_list_with_the_run(mlflow_page: Page, entities: Entities) -> None:
    url = links.evaluation_run_url(entities.base, entities.experiment, entities.run)

    expect_page(mlflow_page, url, "Evaluation runs", "Group by", "calm-owl")
