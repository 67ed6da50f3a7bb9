"""The page's constant texts, which Gradio translates in the browser."""

import gradio as gr

from phi3_ui.i18n.translate import BROWSER_TEXTS

I18N = gr.I18n(**BROWSER_TEXTS)


def browser_texts(keys: list[str]) -> dict[str, dict[str, str]]:
    """Return texts by language and key for one of our own scripts, which Gradio does not translate."""
    return {language: {key: texts[key] for key in keys} for language, texts in BROWSER_TEXTS.items()}
