"""Both languages say everything, with the same values in it."""

import ast
import string
from typing import get_args

import pytest

from phi3_ui.chat.types import FinishReason, StreamingMode
from phi3_ui.errors import SENTENCES, UserError
from phi3_ui.i18n.translate import TEXTS, detect_language, tr, tr_error
from phi3_ui.paths import ROOT
from phi3_ui.provision.recipes import STAGES

_LANGUAGES = ["en", "ro"]


def _placeholders(text: str) -> set[str]:
    """The names of the values a text needs."""
    fields = [
        (name, form, conversion) for _, name, form, conversion in string.Formatter().parse(text) if name is not None
    ]
    assert all(name.isidentifier() and not form and not conversion for name, form, conversion in fields), text
    return {name for name, _, _ in fields}


def test_the_languages_are_english_and_romanian() -> None:
    assert sorted(TEXTS) == _LANGUAGES


def test_both_languages_have_the_same_keys() -> None:
    assert TEXTS["en"].keys() == TEXTS["ro"].keys()


def test_both_languages_need_the_same_values() -> None:
    needed = {key: _placeholders(text) for key, text in TEXTS["en"].items()}

    assert {key: _placeholders(text) for key, text in TEXTS["ro"].items()} == needed


@pytest.mark.parametrize("language", _LANGUAGES)
def test_no_text_is_empty(language: str) -> None:
    assert [key for key, text in TEXTS[language].items() if not text.strip()] == []


@pytest.mark.parametrize("language", _LANGUAGES)
@pytest.mark.parametrize("code", SENTENCES)
def test_every_error_is_said_with_its_values(language: str, code: str) -> None:
    values = {name: f"<{name}>" for name in _placeholders(SENTENCES[code])}

    sentence = tr_error(language, UserError(code, **values))

    assert all(value in sentence for value in values.values())
    assert "{" not in sentence


def test_an_errors_english_is_its_own_sentence() -> None:
    error = UserError("model_busy", model="phi-3")

    assert tr_error("en", error) == str(error)
    assert tr_error("ro", error) != str(error)


@pytest.mark.parametrize("language", _LANGUAGES)
def test_every_named_value_has_its_words(language: str) -> None:
    keys = [f"setup.{stage}" for stage in STAGES]
    keys += [f"delivery.{delivery}" for delivery in get_args(StreamingMode)]
    keys += [f"finish.{reason}" for reason in get_args(FinishReason)]

    assert [key for key in keys if key not in TEXTS[language]] == []


def test_every_key_the_page_asks_for_exists() -> None:
    asked = set()
    for file in (ROOT / "phi3_ui").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(ast.Name("tr"), [_, ast.Constant(str(key)), *_]) | ast.Call(
                    ast.Name("t"), [ast.Constant(str(key))]
                ):
                    asked.add(key)

    assert len(asked) > 30, "the calls are found"
    assert asked - TEXTS["en"].keys() == set()


def test_values_are_filled_in() -> None:
    assert tr("en", "tokens", prompt=37, completion=59) == "37 + 59 tokens"
    assert tr("ro", "tokens", prompt=37, completion=59) == "37 + 59 tokeni"
    with pytest.raises(KeyError):
        tr("en", "no such text")


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("ro-RO,ro;q=0.9", "ro"),
        ("ro", "ro"),
        ("RO-md", "ro"),
        (" ro ;q=1.0, en", "ro"),
        ("en-US", "en"),
        ("en-US,en;q=0.9,ro;q=0.8", "en"),
        ("de,ro;q=0.5", "en"),
        ("roh", "en"),
        ("*", "en"),
        (",;-", "en"),
        ("", "en"),
        (None, "en"),
    ],
)
def test_a_browsers_first_choice_is_taken_if_it_is_spoken(accept: str | None, language: str) -> None:
    assert detect_language(accept) == language
