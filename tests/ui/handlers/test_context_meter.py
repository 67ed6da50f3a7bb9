"""The context meter: exact if the model can count, otherwise marked as an estimate."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.draft import Draft
from phi3_ui.chat.types import ContextUsage, Message, Usage
from phi3_ui.ui.chat_state import Chat
from phi3_ui.ui.handlers.context_meter import ContextMeter
from tests.ui.handlers.doubles import App


class Counter:
    """Counts characters, while it is idle."""

    is_idle = True

    def count_tokens(self, prompts: Sequence[Sequence[Message]], template: str | None) -> tuple[int, ...] | None:
        counts = tuple(sum(len(message.content) for message in prompt) for prompt in prompts)
        return counts if self.is_idle else None


@pytest.fixture
def app() -> App:
    return App()


def count(app: App, counter: Counter | None, data: Any, system: str = "") -> str:
    meter = ContextMeter(
        app.page,
        cast(Any, SimpleNamespace(count_tokens=lambda _, *arguments: counter and counter.count_tokens(*arguments))),
    )
    updates = meter.set_draft(app.session, system, cast(gr.EventData, SimpleNamespace(_data=data)))
    return str(updates[app.page.composer.context])


def show_answered_chat(app: App) -> None:
    answer = Answer("m", "1234", Usage(30, 10), None, "stop", context=ContextUsage(30, 100))
    app.session.show(Chat(conversation=Conversation().with_question("12345").with_answer(answer)))


def test_an_idle_model_counts_system_prompt_history_and_draft(app: App) -> None:
    app.session.model.set_entry(None, _declare(app, 100))
    show_answered_chat(app)

    assert "<span>40 / 100</span>" in count(app, Counter(), {"text": "", "files": []}, "12")
    assert "<span>14 / 100</span>" in count(app, Counter(), {"text": "123", "files": []}, "12")


def test_the_last_exact_count_plus_an_estimate_is_shown_while_the_model_cannot_count(app: App) -> None:
    app.session.model.set_entry(None, _declare(app, 100))
    show_answered_chat(app)
    busy = Counter()
    busy.is_idle = False

    for counter in (busy, None):
        assert "<span>≈ 42 / 100</span>" in count(app, counter, {"text": "12345678", "files": []})
    assert "<span>40 / 100</span>" in count(app, busy, {"text": " ", "files": []})


def test_a_draft_of_megabytes_is_estimated(app: App) -> None:
    app.session.model.set_entry(None, _declare(app, 100))

    assert "<span>3,000,000 / 100</span>" not in count(app, Counter(), {"text": "x" * 3_000_000, "files": []})
    assert "≈" in count(app, Counter(), {"text": "x" * 3_000_000, "files": []})


def test_a_question_counts_while_its_answer_is_in_progress(app: App) -> None:
    app.session.model.set_entry(None, _declare(app, 100))
    request = TurnRequest(0.0, "m", system="1234")
    app.session.show(Chat(conversation=Conversation().with_question("12345678", request)))
    assert "<span>≈ 3 / 100</span>" in count(app, None, {"text": "", "files": []}, "1234")
    show_answered_chat(app)
    conversation = app.session.current.conversation.with_question("12345678", request)
    app.session.show(Chat(conversation=conversation))
    assert "<span>≈ 42 / 100</span>" in count(app, None, {"text": "", "files": []})


def test_each_file_is_counted_and_an_overlong_one_is_refused(app: App) -> None:
    app.session.model.set_entry(None, _declare(app, 100))
    files = [{"id": "1", "name": "a", "text": "x" * 10}, {"id": "2", "name": "b", "text": "x" * 100}]

    meter = count(app, Counter(), {"text": "x" * 110, "files": files})

    assert "10 tokens" in meter
    assert "b has 100 tokens" in meter
    assert "a has" not in meter
    assert "<span>10 / 100</span>" in meter, "the refused file no longer counts"


@pytest.mark.parametrize("data", [None, [], {"text": 5}, {"text": "x" * 9_000_000}, {"text": "", "files": ["x", {}]}])
def test_invalid_data_counts_as_an_empty_draft(app: App, data: Any) -> None:
    app.session.model.set_entry(None, _declare(app, 100))

    assert "<span>0 / 100</span>" in count(app, Counter(), data)


def test_the_size_of_a_pages_draft_is_bounded(app: App) -> None:
    long, file = "x" * 4_000_001, {"id": "1", "name": "a", "text": ""}
    count(app, None, {"text": "x", "files": []}, "kept")
    assert app.session.draft == Draft("x", (), "kept")
    for data, system in (
        ({"text": "x", "files": []}, long),
        ({"text": "x" * 2_000_001, "files": []}, "x" * 2_000_001),
        *(({"text": "x", "files": [{**file, name: long}]}, "") for name in file),
    ):
        count(app, None, data, system)
        assert app.session.draft == Draft()


def test_the_meter_stays_while_the_selected_model_is_looked_up(app: App) -> None:
    app.session.model.select("m")
    meter = ContextMeter(
        app.page, cast(Any, SimpleNamespace(count_tokens=lambda _, *arguments: Counter().count_tokens(*arguments)))
    )

    assert meter.draw(app.session) == {app.page.composer.context: gr.skip()}


def _declare(app: App, context_length: int) -> Any:
    return replace(app.catalogue.find(None), context_length=context_length)
