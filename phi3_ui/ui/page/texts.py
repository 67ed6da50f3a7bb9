"""The page's constant texts, which Gradio translates in the browser."""

import threading

import gradio as gr
from gradio.i18n import I18nData
from typing_extensions import override

from phi3_ui.i18n.translate import BROWSER_TEXTS


class _UsedTexts(gr.I18n):
    """Sends browsers the texts that components use; all of them would be a third of the page's document."""

    def __init__(self, texts: dict[str, dict[str, str]]) -> None:
        super().__init__(**texts)
        self._keys = set[str]()
        self._lock = threading.Lock()  # one app's page may be built while another's is sent

    @override
    def __call__(self, key: str) -> I18nData:
        """Return the text `key` for a component. Raises KeyError if there is no such text."""
        for texts in self.translations.values():
            texts[key]
        with self._lock:
            self._keys.add(key)
        return super().__call__(key)

    @property
    @override
    def translations_dict(self) -> dict[str, dict[str, str]]:
        """The used texts by language and key."""
        with self._lock:
            keys = sorted(self._keys)
        return {language: {key: texts[key] for key in keys} for language, texts in self.translations.items()}


I18N = _UsedTexts(BROWSER_TEXTS)


def browser_texts(keys: list[str]) -> dict[str, dict[str, str]]:
    """Return texts by language and key for one of our own scripts, which Gradio does not translate."""
    return {language: {key: texts[key] for key in keys} for language, texts in BROWSER_TEXTS.items()}
