"""Restoring a tab's state from before a reload."""

import math
from typing import Any

import pytest

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.sampling_params import SAMPLING_PARAMS
from phi3_ui.ui.chat_state import Chat
from phi3_ui.ui.handlers.tab_state import TabStateRestorer, find_tab
from tests.ui.handlers.doubles import ENTRY, SUPPORTED, App

_SETTINGS = {
    "system": "Be brief.",
    "temperature": 1.2,
    "top_p": 0.5,
    "max_tokens": 99,
    "top_k": None,
    "stop": "a\nb",
    "seed": "7",
    "repetition_penalty": 1.5,
    "presence_penalty": -1,
    "frequency_penalty": 2,
}


@pytest.fixture
def app() -> App:
    return App()


def restore(app: App, **state: Any) -> dict[Any, Any]:
    restorer = TabStateRestorer(app.page, app.services, app.conversations)
    return restorer.restore(app.session, {"login": "", **state})


def values(app: App, updates: dict[Any, Any]) -> dict[str, Any]:
    settings = app.page.settings
    components = {"system": settings.system, **settings.controls}
    return {name: updates[component]["value"] for name, component in components.items() if component in updates}


def test_all_settings_are_restored(app: App) -> None:
    assert values(app, restore(app, settings=_SETTINGS)) == _SETTINGS


def test_overlong_values_are_not_restored(app: App) -> None:
    updates = restore(app, draft="x" * 4_000_001, model="m" * 1001, chat="c" * 1001, rated="t" * 1001)

    assert app.page.composer.message not in updates
    assert app.session.draft.text == ""
    assert app.session.model.key is None
    app.session.model.select("m" * 1001)
    assert app.session.model.key is None
    app.session.model.select("m" * 1000)
    assert app.session.model.key == "m" * 1000


@pytest.mark.parametrize("invalid", [math.nan, "x", {"a": 1}, [1], -99])
def test_invalid_values_become_the_default(app: App, invalid: Any) -> None:
    updates = restore(app, settings={param.name: invalid for param in SAMPLING_PARAMS})

    expected = {param.name: param.control_default for param in SAMPLING_PARAMS}
    if isinstance(invalid, str):
        expected["stop"] = invalid
    assert values(app, updates) == expected


@pytest.mark.parametrize("settings", [None, [], "text", 3, {"unknown": 1}, {"system": 5}, {"system": "x" * 1_000_000}])
def test_unreadable_settings_change_nothing(app: App, settings: Any) -> None:
    assert values(app, restore(app, settings=settings)) == {}


def test_restoring_does_not_enable_a_control(app: App) -> None:
    assert all("interactive" not in update for update in restore(app, settings=_SETTINGS).values())


def test_unsupported_controls_are_disabled(app: App) -> None:
    restore(app, settings=_SETTINGS)

    updates = app.models._controls(app.session, ENTRY)

    names = {component: name for name, component in app.page.settings.controls.items()}
    assert {names[component] for component in updates} == set(names.values()) - set(SUPPORTED)
    assert all(update["interactive"] is False for update in updates.values())


def test_the_context_meter_counts_the_restored_draft_and_system_prompt(app: App) -> None:
    restore(app, draft="Hello", settings={"system": "Be brief."})
    assert (app.session.draft.text, app.session.draft.system) == ("Hello", "Be brief.")


def test_a_tab_is_restored_once_and_only_for_its_user(app: App) -> None:
    assert restore(app, settings=_SETTINGS)
    assert restore(app, settings=_SETTINGS) == {}

    app.session = app.pages.get("other", "en", "anna")
    assert restore(app, settings=_SETTINGS) == {}


def test_chat_model_and_draft_are_restored(app: App) -> None:
    conversation = Conversation().with_question("one").with_answer(Answer("m", "1"))
    app.store.history.stored["c" * 32] = conversation

    updates = restore(app, chat="c" * 32, model="m-1", draft="not sent")

    assert app.session.current.id == "c" * 32
    assert app.session.current.conversation == conversation
    assert app.session.model.key == "m-1"
    assert updates[app.page.composer.message] == "not sent"


@pytest.mark.parametrize(("taken", "is_restored"), [("one", False), ("", True), ("other", True)])
def test_a_draft_that_was_sent_before_the_connection_was_lost_is_not_restored(
    app: App, taken: str, is_restored: bool
) -> None:
    chat = app.session.show(Chat("c" * 32, Conversation().with_question("one")))

    updates = restore(app, chat="c" * 32, draft="one", taken=taken)

    assert app.session.current is chat, "the page already has it, with its answer"
    assert (app.page.composer.message in updates) is is_restored


@pytest.mark.parametrize("state", [None, [], {}, {"tab": 5}, {"tab": ""}, {"tab": "A" * 32}, {"tab": "a" * 33}])
def test_an_invalid_tab_secret_is_ignored(state: object) -> None:
    assert find_tab(state) is None


def test_the_secret_of_the_tab_is_found() -> None:
    assert find_tab({"tab": "0f" * 16}) == "0f" * 16
