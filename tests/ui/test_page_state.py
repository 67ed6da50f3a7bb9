"""Gradio's state of a page is freed with the page."""

import phi3_ui.ui.quick_gradio  # noqa: F401, I001  (before any other import of Gradio)

from pathlib import Path

import pytest
from gradio.routes import App as GradioApp
from starlette.routing import Mount

from phi3_ui import server
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from tests.support.asgi_client import run_app


def test_a_closed_page_leaves_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FirstRun, "start", lambda self: None)
    with run_app(server.create_app, Settings.read({"PHI3_UI_HOME": str(tmp_path)})) as client:
        routes = [route.app for route in client.app.routes if isinstance(route, Mount)]
        page = next(app for app in routes if isinstance(app, GradioApp))
        pages, holder, blocks = client.app.state.services.pages, page.state_holder, page.get_blocks()
        for key in ("a", "b"):
            pages.get(key, "en")
            pages.claim_tab(key, None, f"tab of {key}", "browser")
            assert holder[key].config_values
            blocks.pending_streams[key]["run"] = {}
            blocks.pending_diff_streams[key]["run"] = [None]

        pages.close_tab("tab of a", "browser")

        for states in (holder.session_data, holder.time_last_used, blocks.pending_streams, blocks.pending_diff_streams):
            assert set(states) == {"b"}
