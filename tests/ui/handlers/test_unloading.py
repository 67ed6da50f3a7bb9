"""Who may unload a model that others are using."""

from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from phi3_ui.ui.sessions import Session
from tests.ui.handlers.doubles import ENTRY, App


def _select(session: Session) -> None:
    session.model.select("m-1")
    session.model.set_entry("m-1", ENTRY)


@pytest.mark.parametrize(
    ("is_single_user", "is_shared", "is_unloaded"), [(False, True, False), (False, False, True), (True, True, True)]
)
def test_only_the_administrator_can_unload_a_model_that_others_use(
    monkeypatch: pytest.MonkeyPatch, is_single_user: bool, is_shared: bool, is_unloaded: bool
) -> None:
    warnings, unloaded = list[str](), list[str]()
    monkeypatch.setattr(gr, "Warning", warnings.append)
    app = App()
    _select(app.session)
    if is_shared:
        _select(app.pages.get("another", "en"))
    models = cast(Any, app.models)
    models._settings = SimpleNamespace(is_single_user=is_single_user)
    spec = SimpleNamespace(model_id="m-1", name="demo")
    models._pool = SimpleNamespace(peek=lambda _id: SimpleNamespace(spec=spec), unload=unloaded.append)
    monkeypatch.setattr(models, "show_status", lambda _session: {})

    app.models.unload(cast(Any, None))

    assert unloaded == (["m-1"] if is_unloaded else [])
    assert [text for text in warnings if "another user's page" in text] == ([] if is_unloaded else warnings)
    assert bool(warnings) is not is_unloaded
