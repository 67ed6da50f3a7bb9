"""Tests for the page while the tracking store rejects writes, and while MLflow's own UI starts and stops."""

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


def test_a_locked_store_does_not_block_chats_and_is_reported_on_the_page(app: App, open_page: OpenPage) -> None:
    chat = open_page()
    chat.answer(FRANCE)
    app.traces(1, chat)
    connection = sqlite3.connect(app.server.home / "mlflow.db", isolation_level=None, timeout=60)
    connection.execute("BEGIN EXCLUSIVE")
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
        connection.rollback()
        connection.close()
    expect(chat.warning).to_be_empty(timeout=LOAD)
    app.server.accept_log()  # MLflow logs each query that fails because of the lock
    assert {trace.info.request_preview for trace in app.traces(2, chat)} == {FRANCE, SPAIN}


def test_chats_are_kept_until_a_deleted_experiment_is_restored_as_the_page_explains(
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
        restore_command = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        expect(chat.warning).to_contain_text(restore_command, timeout=LOAD)
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
    variables = environment(home, PHI3_UI_MLFLOW_URL=url)
    with (home / "mlflow-ui.log").open("wb") as log:
        mlflow = psutil.Popen(
            [sys.executable, "-m", "phi3_ui", "mlflow-ui"], cwd=ROOT, env=variables, stdout=log, stderr=log
        )
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
