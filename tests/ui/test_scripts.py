"""The page's scripts in the form that Gradio accepts."""

import json
import re
from pathlib import Path

import pytest

from phi3_ui import ui
from phi3_ui.ui.page.scripts import (
    ACTIONS_JS,
    DOWNLOAD_JS,
    KEEP_FOLDS_JS,
    MARK_SETUP_JS,
    REPLAY_JS,
    RUNNING_JS,
    chat_js,
    module_js,
    view_js,
)

STATIC = Path(ui.__file__).parent / "static"
TEXTS = {"en": {"chat": "Chat “&”"}, "ro": {"chat": "Conversație"}}
STARTERS = {"en": [{"value": "joke", "title": "Tell a joke", "about": "About “atoms”"}]}


@pytest.mark.parametrize(
    "script",
    [
        *(ACTIONS_JS, DOWNLOAD_JS, KEEP_FOLDS_JS, MARK_SETUP_JS, REPLAY_JS, RUNNING_JS),
        *(chat_js(TEXTS, STARTERS), module_js("models/menu.js", TEXTS), view_js("usage")),
    ],
)
def test_a_component_that_is_created_late_has_no_property_but_its_value(script: str) -> None:
    assert set(re.findall(r"\bprops\.(\w+)", script)) <= {"value"}


def test_the_chats_script_contains_its_texts() -> None:
    script = chat_js(TEXTS, STARTERS)
    assert json.dumps(TEXTS) in script
    assert json.dumps(STARTERS) in script


def test_dates_and_numbers_follow_the_language_of_the_page_and_not_the_browsers() -> None:
    for file in STATIC.rglob("*.js"):
        text = file.read_text(encoding="utf-8")
        formats = re.findall(r"toLocale\w+\(([^,)]*)|Intl\.\w+\(([^,)]*)", text)
        assert all("".join(locale) == "LOCALE" for locale in formats), file
