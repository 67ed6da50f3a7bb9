"""Tests that a model with its own code is listed, but not loaded until the administrator approves its files on the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from playwright.sync_api import expect

from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.testing import log_scripted_model
from tests.e2e.conftest import App, OpenPage
from tests.support.chat_page import LOAD

NAME = "somebodys-model"


@pytest.fixture
def folder(app: App, tmp_path: Path) -> Iterator[Path]:
    """Log an unapproved model, the newest in the app's store, and yield its folder."""
    uri = f"sqlite:///{app.server.home / 'mlflow.db'}"
    logged = log_scripted_model(uri, tmp_path, NAME)
    yield Path(str(Catalogue(uri).find(logged.model_id).folder))
    MlflowClient(uri).delete_logged_model(logged.model_id)


def test_code_runs_only_after_approval_of_the_displayed_files(app: App, folder: Path, open_page: OpenPage) -> None:
    chat = open_page()
    before = {process.pid for process in app.server.model_processes()}
    expect(chat.status.locator(".phi3-model-name")).to_have_text("scripted-one")  # the newest model that may be loaded
    chat.open_models()
    row = chat.models.get_by_role("option").filter(has_text=NAME)
    expect(row).to_contain_text("not loaded: brings its own code")
    chat.page.keyboard.press("Escape")

    chat.choose(NAME)
    alert = chat.status.get_by_role("alert")
    expect(alert).to_contain_text(f"{NAME} is not loaded: that would run code that comes with it (")
    expect(alert).to_contain_text("scripted_pyfunc.py")
    chat.show_tab("model")
    expect(chat.card).to_contain_text("scripted_pyfunc.py: Python code")
    expect(chat.card).to_contain_text("not loaded: brings its own code")
    expect(chat.card).not_to_contain_text("files match")
    chat.ask("Do you run?")
    chat.wait_for_caption(1)
    expect(chat.errors).to_contain_text("is not loaded: that would run code")
    assert {process.pid for process in app.server.model_processes()} <= before

    approve = chat.page.get_by_role("button", name="Trust these files and load")
    (folder / "requirements.txt").write_text("# changed since it was shown\n")
    approve.click()
    expect(chat.page.get_by_text("files have changed since they were shown")).to_be_visible()
    assert not chat.status.locator(".loaded").count()

    # The button ignores clicks until its event has ended, which the page does not show. A reload resets it.
    chat.page.reload()
    chat.message.wait_for(timeout=LOAD)
    chat.show_tab("model")
    approve.click()
    chat.status.locator(".loaded").wait_for(timeout=LOAD)
    expect(alert).to_have_count(0)
    expect(approve).to_be_hidden()
    expect(chat.card).to_contain_text("runs its own code, as approved")
    assert chat.answer("And now?") == "And now?"
