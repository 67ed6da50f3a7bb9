"""What the page shows about the selected model."""

from typing import Any, cast

import pytest

from phi3_ui.errors import UserError
from tests.ui.handlers.doubles import App


def test_the_error_of_a_model_stays_until_another_model_is_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App()
    line = app.page.status.line

    def fail(_: object) -> None:
        raise UserError("store_unreachable", uri="sqlite:///mlflow.db", detail="no such table")

    monkeypatch.setattr(app.catalogue, "find", fail)
    *_, shown = app.models.pick("m-1", cast(Any, None))

    assert "no such table" in shown[line]["error"]
    assert app.models.show_status(app.session)[line] == shown[line], "the page polls it every few seconds"

    app.session.model.select("m-2")
    assert app.models.show_status(app.session)[line]["error"] == ""
    app.session.model.set_error("m-1", UserError("no_model"))
    assert app.session.model.error is None, "another model was selected meanwhile"
