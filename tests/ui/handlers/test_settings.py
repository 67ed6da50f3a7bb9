"""The settings of a chat's last question, and what a preset sets."""

from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.sampling_params import SAMPLING_PARAMS
from phi3_ui.chat.types import GenerationParams
from phi3_ui.ui.handlers.conversations import Action
from phi3_ui.ui.handlers.settings import SettingsHandlers, restore_settings_of_chat
from tests.ui.handlers.doubles import App


@pytest.fixture
def app() -> App:
    return App()


def values(app: App, updates: dict[Any, Any]) -> dict[str, Any]:
    named = {"system": app.page.settings.system, **app.page.settings.controls}
    return {name: updates[component]["value"] for name, component in named.items() if component in updates}


def ask(conversation: Conversation, request: TurnRequest | None) -> Conversation:
    return conversation.with_question("q", request).with_answer(Answer("m", "a"))


def test_opening_a_chat_restores_what_its_last_question_was_asked_with(app: App) -> None:
    params = GenerationParams(temperature=0.0, max_tokens=7, stop=("a", "b"), seed=3)
    first = ask(Conversation(), TurnRequest(0, "m-1", "Be long.", GenerationParams(temperature=2.0)))
    app.store.history.stored["c" * 32] = ask(first, TurnRequest(1, "m-1", "Be brief.", params))

    restored = values(app, app.conversations.perform(app.session, Action("open", "c" * 32)))

    defaults = {param.name: param.control_default for param in SAMPLING_PARAMS}
    assert restored == {
        **defaults,
        "system": "Be brief.",
        "temperature": 0.0,
        "max_tokens": 7,
        "stop": "a\nb",
        "seed": "3",
    }


@pytest.mark.parametrize("request_", [None, TurnRequest(0, "")])
def test_an_imported_chat_leaves_the_settings_alone(app: App, request_: TurnRequest | None) -> None:
    assert restore_settings_of_chat(app.page, ask(Conversation(), request_)) == {}
    assert restore_settings_of_chat(app.page, Conversation()) == {}


def test_a_preset_sets_its_values_alone_and_nothing_invalid(app: App) -> None:
    def apply(data: object) -> dict[str, Any]:
        event = cast(gr.EventData, SimpleNamespace(_data=data))
        updates = SettingsHandlers(app.page).apply(event)
        return {name: value for name, value in values(app, updates).items() if value != gr.skip()}

    assert apply({"values": {"temperature": 0, "top_k": 0}}) == {"temperature": 0, "top_k": 0}
    assert apply({"values": {"temperature": "x", "unknown": 1, "system": 5}}) == {"temperature": 0.2}
