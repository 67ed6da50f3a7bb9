"""The page's configuration that Gradio sends to the browser."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from anyio.from_thread import start_blocking_portal

from phi3_ui.settings import Settings
from phi3_ui.ui.page.layout import build_ui
from tests.ui.handlers.doubles import App


def test_the_page_of_a_space_asks_no_other_host_whether_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEM", "spaces")
    monkeypatch.setenv("SPACE_ID", "someone/phi3-chat")
    services = cast(Any, App().services)
    services.settings = Settings.read({})
    services.evaluations = services.imports = SimpleNamespace()
    with start_blocking_portal() as portal:  # Gradio's queue asks for a loop
        blocks = portal.call(build_ui, services)

    assert blocks.get_config_file()["space_id"] is None
