"""Every string a user sees, in English and Romanian, with plurals, numbers and dates by CLDR (through Babel).

Static labels are translated in the browser (from `BROWSER_TEXTS`); what the server writes is translated here,
by the same first choice of the browser's languages, so the two always agree.
"""

from collections.abc import Mapping
from datetime import date, datetime
from functools import lru_cache

from babel import Locale
from babel import dates as babel_dates
from babel import numbers as babel_numbers

from phi3_ui.errors import SENTENCES, UserError, error_from_record
from phi3_ui.i18n import en, ro

Text = str | Mapping[str, str]
"""A string, or one string per CLDR plural category (one, few, other) of the value `count`."""

TEXTS: dict[str, Mapping[str, Text]] = {"en": en.TEXTS, "ro": ro.TEXTS}
"""By language and key."""

ERRORS: dict[str, Mapping[str, str]] = {"en": SENTENCES, "ro": ro.ERRORS}
"""By language and error code."""

BROWSER_TEXTS: dict[str, dict[str, str]] = {
    language: {
        **{key: text for key, text in texts.items() if isinstance(text, str)},
        **{f"error.{code}": sentence for code, sentence in ERRORS[language].items()},
    }
    for language, texts in TEXTS.items()
}

# Dates have the day first, as in most of the world. static/locale.js does the same.
_LOCALES = {"en": Locale("en", "GB"), "ro": Locale("ro")}


def detect_language(accept_language: str | None) -> str:
    """Return the browser's preferred language if it is supported, else English. `accept_language` is the HTTP header."""
    preferred = (accept_language or "").split(",")[0].split(";")[0].strip().lower()
    language = preferred.split("-")[0]
    return language if language in TEXTS else "en"


def tr(language: str, key: str, **values: object) -> str:
    """Return the text `key` with its values filled in; integers are formatted for the language.

    For a text with plural forms, the value `count` selects the form.

    Raises:
        KeyError: There is no such text, or one of its values is missing.
        TypeError: `count` is not an integer, for a text with plural forms.
    """
    text = TEXTS[language][key]
    if not isinstance(text, str):
        count = values["count"]
        if not isinstance(count, int):
            raise TypeError(f"the count of {key!r} is not an integer: {count!r}")
        text = text[_LOCALES[language].plural_form(count)]
    return text.format(
        **{name: format_number(language, value) if isinstance(value, int) else value for name, value in values.items()}
    )


def tr_error(language: str, error: UserError) -> str:
    """Return the error's message. Its numbers stay plain: ports and exit codes have no digit grouping."""
    return ERRORS[language][error.code].format(**error.values)


def tr_finding(language: str, code: str, values: Mapping[str, str | int]) -> str:
    """Return the message of one of the doctor's findings; for "remote_failed", that of the error whose code is the value `error`."""
    if code == "remote_failed":
        rest = {name: value for name, value in values.items() if name != "error"}
        return tr_error(language, error_from_record(str(values["error"]), rest))
    return tr(language, f"doctor.{code}", **values)


@lru_cache(maxsize=4096)  # a chat is redrawn several times a second with the same numbers
def format_number(language: str, value: float, decimals: int = 0) -> str:
    """Round `value` to `decimals`, with digit grouping: 8,192.5 in English, 8.192,5 in Romanian."""
    pattern = "#,##0." + "0" * decimals if decimals else "#,##0"
    return babel_numbers.format_decimal(value, format=pattern, locale=_LOCALES[language])


def format_metric(language: str, value: float) -> str:
    """Format a run's metric with four significant digits, or as a whole number from a million on."""
    if abs(value) >= 1e6:
        return format_number(language, value)
    return babel_numbers.format_decimal(float(f"{value:.4g}"), format="#,##0.############", locale=_LOCALES[language])


def format_percent(language: str, fraction: float) -> str:
    """Format a fraction from 0 to 1: 20% in English, 20 % in Romanian."""
    return babel_numbers.format_percent(fraction, locale=_LOCALES[language])


def format_rate(language: str, rate: float) -> str:
    """Format a rate with one decimal, or as a whole number from a thousand on."""
    return format_number(language, rate, 1 if rate < 1000 else 0)


def format_seconds(language: str, seconds: float) -> str:
    """Format seconds with two decimals and their unit."""
    return f"{format_number(language, seconds, 2)} s"


def format_megabytes(language: str, count: int, decimals: int = 1) -> str:
    """Format `count` bytes in megabytes of 10⁶ bytes."""
    return f"{format_number(language, count / 1e6, decimals)} MB"


def format_bytes(language: str, count: int) -> str:
    """Format `count` bytes, rounded: 8 kB, 93 MB, 10.4 GB."""
    if count < 1e6:
        return f"{format_number(language, count / 1e3)} kB"
    if count < 1e9:
        return f"{format_number(language, count / 1e6)} MB"
    return f"{format_number(language, count / 1e9, 1)} GB"


def format_date(language: str, day: date) -> str:
    """Format a date: 17 May 2024, or 17 mai 2024."""
    return babel_dates.format_skeleton("yMMMd", day, locale=_LOCALES[language])


def format_day(language: str, day: date) -> str:
    """Format a date without its year: 17 May, or 17 mai."""
    return babel_dates.format_skeleton("MMMd", day, locale=_LOCALES[language])


def format_datetime(language: str, moment: datetime) -> str:
    """Format date and time to the minute, on a 24-hour clock, in the moment's own time zone."""
    time = babel_dates.format_skeleton("Hm", moment, tzinfo=moment.tzinfo, locale=_LOCALES[language])
    return f"{format_date(language, moment.date())}, {time}"
