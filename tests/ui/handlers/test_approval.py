"""The button that allows a model's code: only for the administrator, and only for the files that were shown."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from phi3_ui.store.registry.admission import Review
from phi3_ui.store.registry.approvals import Approvals
from phi3_ui.store.registry.suspects import Suspect
from phi3_ui.store.registry.trust import Inspection
from phi3_ui.ui.session_values import Approval
from tests.ui.handlers.doubles import ENTRY, App

SHOWN, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("is_single_user", "offered", "approved"),
    [
        (True, Approval(ENTRY.model_id, SHOWN), {SHOWN}),
        (False, Approval(ENTRY.model_id, SHOWN), set()),
        (True, None, set()),
        (True, Approval(ENTRY.model_id, OTHER), set()),
        (True, Approval("m-another", SHOWN), set()),
    ],
)
def test_only_the_files_that_the_administrator_was_shown_are_approved(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_single_user: bool,
    offered: Approval | None,
    approved: set[str],
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(gr, "Warning", warnings.append)
    app = App()
    approvals = Approvals(tmp_path / "trusted_models.json")
    review = Review(Inspection("code", (Suspect("x.py", "python"),), SHOWN), is_approved=False)
    models = cast(Any, app.models)
    models._admission = SimpleNamespace(review=lambda _entry: review, approvals=approvals)
    models._settings = SimpleNamespace(is_single_user=is_single_user)
    monkeypatch.setattr(models, "show_models", lambda _session: {})
    monkeypatch.setattr(models, "show_card", lambda _session: {})
    monkeypatch.setattr(models, "pick", lambda _key, _request: iter(()))
    app.session.model.set_entry(app.session.model.key, ENTRY, ())
    app.session.panels.offered = offered

    assert list(app.models.approve("m-1", cast(Any, None)))
    assert approvals.list() == approved
    assert bool(warnings) is not bool(approved)
