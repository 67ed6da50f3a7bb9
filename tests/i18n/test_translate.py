"""Texts: both languages are complete, and plurals, numbers and dates follow the language."""

import ast
import re
import string
from datetime import UTC, datetime
from typing import get_args

import pytest
from babel import Locale
from hypothesis import given
from hypothesis import strategies as st

from phi3_ui.chat.types import FinishReason, StreamingMode
from phi3_ui.errors import SENTENCES, UserError
from phi3_ui.i18n.translate import (
    BROWSER_TEXTS,
    ERRORS,
    TEXTS,
    Text,
    detect_language,
    format_date,
    format_datetime,
    format_day,
    format_megabytes,
    format_metric,
    format_number,
    format_percent,
    format_rate,
    format_seconds,
    tr,
    tr_error,
)
from phi3_ui.paths import ROOT
from phi3_ui.provision.recipes import STAGES

_LANGUAGES = ["en", "ro"]


def _placeholders(text: str) -> set[str]:
    """Return the names of the values that a text needs."""
    fields = [
        (name, form, conversion) for _, name, form, conversion in string.Formatter().parse(text) if name is not None
    ]
    assert all(name.isidentifier() and not form and not conversion for name, form, conversion in fields), text
    return {name for name, _, _ in fields}


def _forms(text: Text) -> list[str]:
    return [text] if isinstance(text, str) else list(text.values())


def test_languages_are_english_and_romanian() -> None:
    assert sorted(TEXTS) == sorted(ERRORS) == sorted(BROWSER_TEXTS) == _LANGUAGES


def test_languages_have_the_same_keys() -> None:
    assert TEXTS["en"].keys() == TEXTS["ro"].keys()
    assert ERRORS["en"].keys() == ERRORS["ro"].keys()


def test_languages_need_the_same_values() -> None:
    needed = {
        key: [_placeholders(form) for texts in TEXTS.values() for form in _forms(texts[key])] for key in TEXTS["en"]
    }

    assert {key: values for key, values in needed.items() if any(one != values[0] for one in values)} == {}


def test_error_sentences_need_the_same_values() -> None:
    needed = {code: (_placeholders(ERRORS["ro"][code]), _placeholders(SENTENCES[code])) for code in SENTENCES}

    assert {code: values for code, values in needed.items() if values[0] != values[1]} == {}


@pytest.mark.parametrize("language", _LANGUAGES)
def test_no_text_is_empty(language: str) -> None:
    texts = {**TEXTS[language], **ERRORS[language]}

    assert [key for key, text in texts.items() if not all(form.strip() for form in _forms(text))] == []


@pytest.mark.parametrize("language", _LANGUAGES)
def test_plural_texts_have_every_category_of_their_language(language: str) -> None:
    categories = {*Locale(language).plural_form.rules, "other"}
    plurals = {key: set(text) for key, text in TEXTS[language].items() if not isinstance(text, str)}

    assert plurals
    assert {key: forms for key, forms in plurals.items() if forms != categories} == {}


@pytest.mark.parametrize(
    ("language", "count", "text"),
    [
        ("en", 1, "Queued: 1 request ahead"),
        ("en", 2000, "Queued: 2,000 requests ahead"),
        ("ro", 1, "În așteptare: 1 cerere înainte"),
        ("ro", 2, "În așteptare: 2 cereri înainte"),
        ("ro", 19, "În așteptare: 19 cereri înainte"),
        ("ro", 20, "În așteptare: 20 de cereri înainte"),
        ("ro", 101, "În așteptare: 101 cereri înainte"),
        ("ro", 8192, "În așteptare: 8.192 de cereri înainte"),
    ],
)
def test_plural_form_follows_the_count(language: str, count: int, text: str) -> None:
    assert tr(language, "wait.queued", count=count) == text


@given(st.integers(0, 10**9), st.sampled_from(_LANGUAGES))
def test_numbers_are_grouped_and_keep_their_digits(value: int, language: str) -> None:
    written = format_number(language, value)

    assert re.sub(r"[.,]", "", written) == str(value)
    assert re.fullmatch(r"\d{1,3}([.,]\d{3})*", written)


def test_numbers_and_dates_follow_the_language() -> None:
    moment = datetime(2024, 5, 17, 21, 5, tzinfo=UTC)

    assert format_number("en", 8192.456, 2) == "8,192.46"
    assert format_number("ro", 8192.456, 2) == "8.192,46"
    assert (format_percent("en", 0.2), format_percent("ro", 0.2)) == ("20%", "20\N{NO-BREAK SPACE}%")
    assert (format_seconds("en", 0.126), format_megabytes("ro", 2_723_400_000)) == ("0.13 s", "2.723,4 MB")
    assert (format_rate("ro", 98.44), format_rate("ro", 7328.9)) == ("98,4", "7.329")
    assert (format_day("en", moment), format_day("ro", moment)) == ("17 May", "17 mai")
    assert (format_date("en", moment), format_date("ro", moment)) == ("17 May 2024", "17 mai 2024")
    assert (format_datetime("en", moment), format_datetime("ro", moment)) == (
        "17 May 2024, 21:05",
        "17 mai 2024, 21:05",
    )


@pytest.mark.parametrize(
    ("value", "text"), [(0.25, "0.25"), (1234.56, "1,235"), (0.000123456, "0.0001235"), (2_500_000.7, "2,500,001")]
)
def test_metrics_have_four_significant_digits(value: float, text: str) -> None:
    assert format_metric("en", value) == text


@pytest.mark.parametrize("language", _LANGUAGES)
def test_every_error_message_contains_its_values(language: str) -> None:
    wrong = []
    for code, text in SENTENCES.items():
        values = {name: f"<{name}>" for name in _placeholders(text)}
        sentence = tr_error(language, UserError(code, **values))
        if "{" in sentence or not all(value in sentence for value in values.values()):
            wrong.append(sentence)

    assert wrong == []


def test_errors_keep_their_numbers_plain() -> None:
    assert "Port 7860 " in tr_error("en", UserError("port_taken", port=7860, host="localhost"))
    assert "Portul 7860 " in tr_error("ro", UserError("port_taken", port=7860, host="localhost"))


def test_english_sentence_of_an_error_is_its_str() -> None:
    error = UserError("model_busy", model="phi-3")

    assert tr_error("en", error) == str(error)
    assert tr_error("ro", error) != str(error)


@pytest.mark.parametrize("language", _LANGUAGES)
def test_every_named_value_has_a_text(language: str) -> None:
    keys = [f"setup.{stage}" for stage in STAGES]
    keys += [f"delivery.{delivery}" for delivery in get_args(StreamingMode)]
    keys += [f"finish.{reason}" for reason in get_args(FinishReason)]

    assert [key for key in keys if key not in TEXTS[language]] == []


def test_every_key_the_page_asks_for_exists() -> None:
    keys = set()
    for file in (ROOT / "phi3_ui").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(ast.Name("tr"), [_, ast.Constant(str(key)), *_]) | ast.Call(
                    ast.Name("t" | "I18N"), [ast.Constant(str(key))]
                ):
                    keys.add(key)

    assert len(keys) > 30, "the search finds the calls"
    assert keys - {*BROWSER_TEXTS["en"], *TEXTS["en"]} == set()


def test_every_call_passes_the_values_that_its_text_needs() -> None:
    wrong, calls = [], 0
    for file in (ROOT / "phi3_ui").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(ast.Name("tr"), [_, ast.Constant(str(key))], keywords):
                    text = TEXTS["en"][key]
                    needed = set().union(*map(_placeholders, _forms(text)))
                    needed |= set() if isinstance(text, str) else {"count"}
                case ast.Call(ast.Name("UserError"), [ast.Constant(str(key))], keywords):
                    needed = _placeholders(SENTENCES[key])
                case _:
                    continue
            calls += 1
            passed = {keyword.arg for keyword in keywords}
            if None not in passed and passed != needed:  # None: **values, known only when it runs
                wrong.append((file.name, node.lineno, key, passed ^ needed))

    assert calls > 60, "the search finds the calls"
    assert wrong == []


def test_values_are_filled_in() -> None:
    assert tr("en", "tokens", prompt=37, count=59) == "37 + 59 tokens"
    assert tr("ro", "tokens", prompt=37, count=59) == "37 + 59 de tokeni"
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
def test_a_browsers_first_language_is_used_if_it_is_supported(accept: str | None, language: str) -> None:
    assert detect_language(accept) == language
