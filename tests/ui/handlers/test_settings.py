"""The settings of a chat's last question, and what a preset sets."""

from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from phi3_ui.chat.conversation import Answer, Conversation, Feedback, TurnRequest
from phi3_ui.chat.presets import CONTROL_DEFAULTS
from phi3_ui.chat.sampling_params import SAMPLING_PARAMS
from phi3_ui.chat.types import GenerationParams
from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.handlers.conversations import Action
from phi3_ui.ui.handlers.settings import SettingsHandlers, restore_settings_of_chat
from tests.ui.handlers.doubles import App


@pytest.fixture
def app() -> App:
    return App()


def values(app: App, updates: dict[Any, Any]) -> dict[str, Any]:
    components = {"system": app.page.settings.system, **app.page.settings.controls}
    return {name: updates[component]["value"] for name, component in components.items() if component in updates}


def ask(conversation: Conversation, request: TurnRequest | None) -> Conversation:
    return conversation.with_question("q", request).with_answer(Answer("m", "a"))


def test_opening_a_chat_restores_the_settings_of_its_last_question(app: App) -> None:
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
def test_an_imported_chat_has_the_default_settings(app: App, request_: TurnRequest | None) -> None:
    imported = ask(Conversation(), request_)
    assert values(app, restore_settings_of_chat(app.page, imported)) == CONTROL_DEFAULTS


def test_a_new_chat_has_the_default_settings_unless_the_current_one_is_empty(app: App) -> None:
    controller = ChatController(app.page, app.services)
    request = cast(gr.Request, SimpleNamespace(headers={}, session_hash="page", username=None, client=None))

    assert values(app, controller.new_chat("", request)) == {}
    app.send("Hi")
    assert values(app, controller.new_chat("", request)) == CONTROL_DEFAULTS


@pytest.mark.parametrize("name", ["retry", "edit", "continue"])
def test_a_typed_comment_is_saved_and_closed_when_another_answer_is_requested(app: App, name: str) -> None:
    controller = ChatController(app.page, app.services)
    request = cast(gr.Request, SimpleNamespace(headers={}, session_hash="page", username=None, client=None))
    app.send("Hi")
    turn = app.session.current.conversation.turns[0]
    app.conversations.perform(app.session, Action("good", turn.id))

    event = cast(gr.EventData, SimpleNamespace(_data={"name": name, "value": turn.id, "text": "Hello?"}))
    first, *_ = controller.act("", "m-1", "well said", request, event)

    assert not first[app.page.chat.comment_group].visible
    assert app.store.feedback[-1] == Feedback(True, "well said")


def test_a_preset_sets_only_its_own_valid_values(app: App) -> None:
    def apply(data: object) -> dict[str, Any]:
        event = cast(gr.EventData, SimpleNamespace(_data=data))
        updates = SettingsHandlers(app.page).apply(event)
        return {name: value for name, value in values(app, updates).items() if value != gr.skip()}

    assert apply({"values": {"temperature": 0, "top_k": 0}}) == {"temperature": 0, "top_k": 0}
    assert apply({"values": {"temperature": "x", "unknown": 1, "system": 5}}) == {"temperature": 0.2}
