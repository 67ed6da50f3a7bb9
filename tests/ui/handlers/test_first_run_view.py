"""What a page shows while the first run adds models."""

from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from phi3_ui.errors import UserError
from phi3_ui.provision.jobs import JobState
from phi3_ui.ui.handlers.chat import ChatController
from tests.ui.handlers.doubles import App

_STAGES: Any = ("log_onnx", "log_pipeline")


class View:
    """A page whose ticker follows a first run."""

    def __init__(self) -> None:
        self.app = App()
        self.controller = ChatController(self.app.page, self.app.services)

    def tick(self, **state: Any) -> dict[Any, Any]:
        cast(Any, self.app.services).first_run.state = JobState(stages=_STAGES, **state)
        request = SimpleNamespace(headers={}, session_hash="page", username=None, client=None)
        return self.controller.tick(None, {}, cast(gr.Request, request))

    def shows_chat(self, updates: dict[Any, Any]) -> bool:
        return self.app.page.chat_view in updates


@pytest.fixture
def view() -> View:
    return View()


def test_the_chat_opens_with_the_first_model_and_stays_while_the_next_is_added(view: View) -> None:
    setup = view.app.page.setup

    first = view.tick(phase="running")
    assert not view.shows_chat(first)
    assert first[setup.ticker].active

    opened = view.tick(phase="running", step=1, is_usable=True)
    assert view.shows_chat(opened)
    assert opened[setup.view].visible
    assert opened[setup.ticker].active

    later = view.tick(phase="running", step=1, is_usable=True)
    assert not view.shows_chat(later)
    assert view.app.page.picker not in later

    done = view.tick(phase="done", is_usable=True)
    assert not view.shows_chat(done), "it would overwrite an answer in progress"
    assert view.app.page.picker in done
    assert not done[setup.view].visible
    assert not done[setup.ticker].active


def test_a_store_with_models_opens_the_chat_at_once(view: View) -> None:
    updates = view.tick(phase="done", is_usable=True)

    assert view.shows_chat(updates)
    assert not updates[view.app.page.setup.ticker].active


def test_an_error_after_the_first_model_leaves_the_chat_usable(view: View) -> None:
    setup = view.app.page.setup
    view.tick(phase="running", is_usable=True)

    failed = view.tick(phase="failed", is_usable=True, error=UserError("cancelled"))

    assert not view.shows_chat(failed)
    assert failed[setup.view].visible
    assert failed[setup.retry].visible
    assert "phi3-setup-note" in failed[setup.panel]


def test_a_page_opened_after_that_error_shows_the_chat(view: View) -> None:
    assert view.shows_chat(view.tick(phase="failed", is_usable=True, error=UserError("cancelled")))
