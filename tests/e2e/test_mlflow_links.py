"""Each link into MLflow's own UI shows the very thing that it names, and asks no other host for it."""

import os
import signal
import socket
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
from phi3_ui.store.conversations.operations import TurnRecord
from phi3_ui.store.conversations.recorder import Recorder
from tests.support.env import environment

_LONG_AGO = time.time() - 40 * 86_400  # not among the traces that MLflow's list shows by itself


@dataclass(frozen=True)
class Shown:
    base: str
    experiment: str
    run: str
    model: str
    turn: str


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """MLflow's UI as the app's command opens it, on a store with one run, logged model, version and turn of a chat."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings.read({"PHI3_UI_HOME": str(home)})
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
    recorder = Recorder(settings.tracking_uri, lambda: experiment, home / "journal")
    recorder.submit(_record(turn))
    assert recorder.flush(60)
    recorder.close()

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "phi3_ui", "mlflow-ui"]
    with (home / "out").open("wb") as out:
        own = environment(home, PHI3_UI_MLFLOW_URL=base)
        process = subprocess.Popen(command, cwd=ROOT, env=own, stdout=out, stderr=out, start_new_session=True)
    try:
        end = time.monotonic() + 120
        while not links.is_mlflow_ui(base):
            assert process.poll() is None, (home / "out").read_text()
            assert time.monotonic() < end
            time.sleep(0.2)
        yield Shown(base, experiment, run, model, turn.id)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=30)


def _record(turn: Turn) -> TurnRecord:
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
def open_link(browser: Browser, shown: Shown) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1300, "height": 800})
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url))
    yield page
    page.close()
    assert [url for url in asked if url.startswith("http") and not url.startswith(shown.base)] == []


def _expect(page: Page, url: str, *texts: str) -> None:
    page.goto(url)
    for text in texts:
        expect(page.get_by_text(text, exact=False).first).to_be_visible(timeout=60_000)


def test_a_trace_that_is_long_past(open_link: Page, shown: Shown) -> None:
    url = links.trace_url(shown.base, shown.experiment, traces.trace_id_for(shown.turn))

    _expect(open_link, url, "Inputs / Outputs", "Why trust no atom?", "They make up everything.")


def test_a_chat(open_link: Page, shown: Shown) -> None:
    url = links.session_url(shown.base, shown.experiment, "c0ffee")

    _expect(open_link, url, "Why trust no atom?", "They make up everything.")


def test_a_run(open_link: Page, shown: Shown) -> None:
    _expect(open_link, links.run_url(shown.base, shown.experiment, shown.run), "calm-owl", shown.run)


def test_a_logged_model(open_link: Page, shown: Shown) -> None:
    url = links.logged_model_url(shown.base, shown.experiment, shown.model)

    _expect(open_link, url, "About this logged model", "tiny-phi", shown.model)


def test_a_registered_version(open_link: Page, shown: Shown) -> None:
    _expect(open_link, links.model_version_url(shown.base, "my joker", "1"), "my joker", "Version 1", "calm-owl")
