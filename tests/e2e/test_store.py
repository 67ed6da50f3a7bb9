"""The page while the tracking store rejects writes, and while MLflow's own UI starts and stops."""

import sqlite3
import sys

import psutil
from mlflow import MlflowClient
from playwright.sync_api import expect

from models.tracking import EXPERIMENT
from phi3_ui.addresses import sqlite_uri
from phi3_ui.paths import ROOT
from tests.e2e.conftest import App, OpenPage
from tests.support.app_server import is_reachable
from tests.support.chat_page import LOAD
from tests.support.env import environment

FRANCE, SPAIN = "What is the capital of France?", "And what is the capital of Spain?"


def test_a_locked_store_blocks_no_chat_and_the_page_reports_it(app: App, open_page: OpenPage) -> None:
    chat = open_page()
    chat.answer(FRANCE)
    app.traces(1, chat)
    locked = sqlite3.connect(app.server.home / "mlflow.db", isolation_level=None, timeout=60)
    locked.execute("BEGIN EXCLUSIVE")
    try:
        chat.answer(SPAIN)
        expect(chat.warning).to_contain_text("does not accept this chat at the moment", timeout=LOAD)
        expect(chat.chats).to_have_count(1)
        chat.warning.get_by_role("button", name="Close").click()
        expect(chat.warning).to_be_hidden()
        expect(chat.message).to_be_focused()
        chat.page.evaluate("document.querySelector('#phi3-warning p').textContent = 'Something else.'")
        expect(chat.warning).to_be_visible()
    finally:
        locked.rollback()
        locked.close()
    expect(chat.warning).to_be_empty(timeout=LOAD)
    app.server.accept_log()  # MLflow logs each query that the lock refuses
    assert {trace.info.request_preview for trace in app.traces(2, chat)} == {FRANCE, SPAIN}


def test_chats_of_a_deleted_experiment_wait_until_it_is_restored_as_the_page_explains(
    app: App, open_page: OpenPage
) -> None:
    chat = open_page()
    chat.answer(FRANCE)
    app.traces(1, chat)
    client = MlflowClient(sqlite_uri(app.server.home / "mlflow.db"))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment
    client.delete_experiment(experiment.experiment_id)
    try:
        chat.answer(SPAIN)
        cure = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        expect(chat.warning).to_contain_text(cure, timeout=LOAD)
        expect(chat.chats).to_have_count(1)
    finally:
        client.restore_experiment(experiment.experiment_id)
    expect(chat.warning).to_be_empty(timeout=LOAD)
    assert {trace.info.request_preview for trace in app.traces(2, chat)} == {FRANCE, SPAIN}


def test_mlflow_is_linked_while_its_ui_runs(app: App, open_page: OpenPage) -> None:
    url, home = app.mlflow_url, app.server.home
    chat = open_page()
    chat.answer(FRANCE)
    links = chat.page.locator(f'a[href^="{url}"]')
    expect(links).to_have_count(0)
    own = environment(home, PHI3_UI_MLFLOW_URL=url)
    with (home / "mlflow-ui.log").open("wb") as log:
        mlflow = psutil.Popen([sys.executable, "-m", "phi3_ui", "mlflow-ui"], cwd=ROOT, env=own, stdout=log, stderr=log)
    try:
        trace = chat.usage.locator("a", has_text="This trace in MLflow")
        expect(trace).to_be_visible(timeout=LOAD)
        assert is_reachable(url)
        chat.page.locator("#phi3-chat .phi3-last [name=more]").click()
        expect(chat.page.locator(f'#phi3-chat a[href^="{url}"]')).to_be_visible()
        chat.page.keyboard.press("Escape")
        chat.show_tab("model")
        expect(chat.card.locator(f'a[href^="{url}"]').first).to_be_visible()
        chat.show_tab("usage")
        with chat.page.context.expect_page() as opened:
            trace.click()
        expect(opened.value.get_by_text(FRANCE).first).to_be_visible(timeout=LOAD)
    finally:
        for process in (*mlflow.children(recursive=True), mlflow):
            process.kill()
        mlflow.wait()
    expect(links.filter(visible=True)).to_have_count(0, timeout=LOAD)
    expect(chat.card.locator(f'a[href^="{url}"]')).to_have_count(0)
