"""The meter of a comparison: the fullest side counts, and the meter does not reveal the models."""

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.handlers.compare_meter import CompareMeter
from phi3_ui.ui.handlers.context_meter import ContextMeter
from tests.ui.handlers.compare_app import LONG, REQUEST, CompareApp

CONTEXTS = {"m-1": 4096, "m-2": 8192, "m-3": None}


class MeterApp(CompareApp):
    """The handlers with models of different context lengths whose tokenizers count characters; m-2 counts each twice."""

    def __init__(self) -> None:
        super().__init__()
        catalogue, find = cast(Any, self.catalogue), self.catalogue.find
        catalogue.find = lambda key: self._with_context(find(key))
        pool = cast(Any, self.services.pool)
        pool.peek = lambda key: SimpleNamespace(
            count_tokens=lambda prompts, _template: [
                sum(len(message.content) for message in prompt) * (2 if key == "m-2" else 1) for prompt in prompts
            ]
        )
        meter = ContextMeter(self.page, self.services.models)
        self.meter = CompareMeter(self.page, self.services, meter, lambda _request: self.session)
        self.act("open")

    @staticmethod
    def _with_context(entry: ModelEntry) -> ModelEntry:
        return replace(entry, context_length=CONTEXTS[entry.model_id])

    def count(self, text: str = "", models: tuple[str, ...] = ("m-1", "m-2"), system: str = "") -> str:
        sides = [{"model": model, "preset": "", "system": system} for model in models]
        event = cast(gr.EventData, SimpleNamespace(_data={"text": text, "files": [], "sides": sides}))
        return str(self.meter.count_draft("", REQUEST, event)[self.page.compare.meter])

    def read(self, *arguments: Any, **named: Any) -> str:
        """Return the counts of the meter."""
        found = re.search(r"<span>([^<]*/[^<]*)</span>", self.count(*arguments, **named))
        return found[1] if found else ""


@pytest.fixture
def app() -> MeterApp:
    return MeterApp()


def test_the_fullest_side_counts_with_its_own_system_prompt(app: MeterApp) -> None:
    assert app.read("x" * 1000) == "1,000 / 4,096"
    assert app.read("x" * 1000, models=("m-3", "m-2")) == "2,000 / 8,192"
    assert app.read("x" * 1000, system="y" * 96) == "1,096 / 4,096"
    assert app.read("x", models=("m-3", "m-3")) == ""
    assert app.count("x", models=("gone", "m-1")) == ""


def test_before_the_vote_the_meter_does_not_reveal_whose_answer_is_the_longest(app: MeterApp) -> None:
    app.llms["m-2"].text = LONG * 9
    round_id = app.finish()["rounds"][0]["id"]
    hidden = app.count("More?")
    expected = -(-len(LONG * 9) // 4) + sum(-(-len(text) // 4) for text in ("Why?", "More?", "Be brief."))
    shown = re.search(r"≈ ([\d,]+) / ([\d,]+)", hidden)
    assert shown
    assert abs(int(shown[1].replace(",", "")) - expected) <= 3
    assert shown[2] == "4,096", "the smallest context of all sides"
    assert not re.search("brook|stone|8,192", hidden)

    app.act("vote", round=round_id, choice="0")
    assert "8,192" in app.count("More?")
    assert app.read("x", models=("m-1", "m-3")) == "1 / 4,096", "other sides start a new comparison"


def test_an_answer_in_progress_is_not_counted(app: MeterApp) -> None:
    app.llms["m-1"].gate.close()
    drawing = app.ask()
    next(drawing)
    assert app.count("More?") == str(gr.skip())
    app.act("stop")
    list(drawing)


def test_a_round_that_begins_while_its_draft_is_counted_hides_the_names(app: MeterApp) -> None:
    pool, rounds = cast(Any, app.services.pool), list[Any]()
    peek = pool.peek
    app.llms["m-1"].gate.close()

    def ask_meanwhile(key: str) -> Any:
        if not rounds:
            rounds.append(app.ask())
            next(rounds[0])
        return peek(key)

    pool.peek = ask_meanwhile
    assert app.count("Why?") == str(gr.skip())
    app.act("stop")
    list(rounds[0])
