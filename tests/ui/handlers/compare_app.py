"""The handlers of a comparison of three models whose answers a test sets."""

import json
from collections.abc import Generator, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from phi3_ui.chat.types import (
    AnswerEvent,
    CancelToken,
    ChatRequest,
    Completed,
    ModelLoading,
    TextDelta,
    Timings,
    Usage,
)
from phi3_ui.errors import UserError
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.handlers.compare import CompareController
from phi3_ui.ui.render.compare import ComparisonView
from tests.ui.handlers.doubles import ENTRY, App, Gate

REQUEST = cast(gr.Request, None)
ENTRIES = [
    replace(ENTRY, name="brook-model", model_id="m-1"),
    replace(ENTRY, name="stone-model", model_id="m-2"),
    replace(ENTRY, name="third-model", model_id="m-3"),
]
LONG = "word " * 40


class Model:
    """Answers with its text once it is loaded; continues after the first words once its gate is open."""

    def __init__(self, text: str = LONG) -> None:
        self.text, self.gate = text, Gate()
        self.requests: list[ChatRequest] = []
        self.loading = Gate()
        self.error: Exception | None = None

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        self.requests.append(request)
        yield ModelLoading()
        self.loading.wait()
        yield TextDelta(self.text[:60])
        cancel.on_set(self.gate.open)
        self.gate.wait()
        if self.error:
            raise self.error
        yield Completed(self.text, Usage(4, 8), Timings(0.1, 0.2, 40.0), "cancelled" if cancel.is_set() else "stop")


class CompareApp(App):
    """The handlers with three models."""

    def __init__(self, **limits: str) -> None:
        super().__init__(**limits)
        self.llms = {entry.model_id: Model() for entry in ENTRIES}
        by_id = {entry.model_id: entry for entry in ENTRIES}
        catalogue = cast(Any, self.catalogue)
        catalogue.find = lambda key: self._find(by_id, key)
        catalogue.list_models = lambda: ENTRIES
        cast(Any, self.services).models.open = lambda entry: self.llms[entry.model_id]
        self.compare = CompareController(
            self.page, self.services, self.starter, self.conversations, lambda _request: self.session
        )

    @staticmethod
    def _find(by_id: dict[str, ModelEntry], key: str | None) -> ModelEntry:
        if key not in by_id:
            raise UserError("model_gone")
        return by_id[key]

    def act(self, name: str, **data: object) -> dict[Any, Any]:
        return self.compare.act(REQUEST, cast(gr.EventData, SimpleNamespace(_data={"name": name, **data})))

    def ask(
        self, question: str = "Why?", models: tuple[str, ...] = ("m-1", "m-2"), blind: bool = True
    ) -> Generator[Any, None, None]:
        sides = [{"model": model, "preset": "", "system": ""} for model in models]
        data = {"question": question, "blind": blind, "sides": sides}
        return self.compare.ask(
            REQUEST, cast(gr.EventData, SimpleNamespace(_data=data)), temperature=0.5, system="Be brief."
        )

    def view(self, updates: dict[Any, Any]) -> ComparisonView:
        return cast(ComparisonView, json.loads(updates[self.page.compare.view]))

    def finish(self, **arguments: Any) -> ComparisonView:
        *_, last = self.ask(**arguments)
        return self.view(last)


def open_compare_app(monkeypatch: pytest.MonkeyPatch) -> CompareApp:
    """An app whose page shows the view; `warnings` collects its warnings."""
    app = CompareApp()
    app.act("open")
    app.warnings = list[str]()  # type: ignore[attr-defined]
    monkeypatch.setattr(gr, "Warning", app.warnings.append)  # type: ignore[attr-defined]
    return app


def reveals_a_model(text: object) -> bool:
    return any(word in str(text) for entry in ENTRIES[:2] for word in (entry.name, entry.name.upper()[:4]))
