"""Reproduce checks whether a model may be loaded before it reads or renders anything of it."""

import threading
from typing import Any, cast

import pytest

from models import chat_template
from phi3_ui.contracts.declaration import Field, ModelDeclaration
from phi3_ui.errors import UserError
from phi3_ui.ui.handlers.conversations import Action
from phi3_ui.ui.handlers.export import ExportController
from tests.models.test_template_process import BOMBS
from tests.ui.handlers.doubles import App

STRING = (Field("prompt", "string", True),)


class ReproduceApp(App):
    """A chat with one answer, and its model, which declares a template."""

    def __init__(self, template: str) -> None:
        super().__init__()
        self.read = 0
        self._declared = ModelDeclaration(
            frozenset({"python_function"}),
            "mlflow.pyfunc.model",
            "",
            STRING,
            STRING,
            (),
            False,
            {"chat_template": template},
        )
        cast(Any, self.catalogue).load_declaration = self._load_declaration
        ExportController(self.page, self.services, self.conversations, lambda _request: self.session)
        self.send("Hi")

    def _load_declaration(self, _entry: object) -> ModelDeclaration:
        self.read += 1
        return self._declared

    def reproduce(self) -> Any:
        turn = self.session.current.conversation.turns[-1]
        updates = self.conversations.perform(self.session, Action("reproduce", turn.id))
        return updates[self.page.program]


def test_a_model_that_may_not_be_loaded_is_refused_without_being_read() -> None:
    app = ReproduceApp("{{ messages[0].content }}")
    assert "Hi" in app.reproduce()["program"]
    assert app.read == 1

    def refuse(_entry: object) -> None:
        raise UserError("model_not_trusted", model="demo", id="m-1", files="code.py")

    cast(Any, app.services.admission).require = refuse

    with pytest.raises(UserError, match="demo is not loaded"):
        app.reproduce()
    assert app.read == 1


@pytest.mark.parametrize("name", ["filtered loop", "text"])
def test_a_template_that_takes_too_much_time_or_memory_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(chat_template, "_is_confined", threading.Event())

    with pytest.raises(UserError, match=r"template.*too (long|much memory)"):
        ReproduceApp(BOMBS[name]).reproduce()
