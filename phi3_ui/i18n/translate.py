"""Every string a person sees, in English and Romanian.

Labels that never change are translated in the browser (gradio.I18n gets `TEXTS` whole); what the server writes is
translated here, by the same first choice of the browser's languages, so the two always agree.
"""

from phi3_ui.errors import SENTENCES, UserError
from phi3_ui.i18n import en, ro

TEXTS: dict[str, dict[str, str]] = {
    "en": {**en.WORDS, **{f"error.{code}": sentence for code, sentence in SENTENCES.items()}},
    "ro": ro.WORDS,
}


def detect_language(accept_language: str | None) -> str:
    """The language for a browser: its first choice if we speak it, else English."""
    first = (accept_language or "").split(",")[0].split(";")[0].strip().lower()
    language = first.split("-")[0]
    return language if language in TEXTS else "en"


def tr(language: str, key: str, **values: object) -> str:
    """The text called `key` with its values filled in. KeyError for a key that does not exist."""
    return TEXTS[language][key].format(**values)


def tr_error(language: str, error: UserError) -> str:
    return tr(language, f"error.{error.code}", **error.values)
