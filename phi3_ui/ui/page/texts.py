"""The page's constant texts, which Gradio translates in the browser."""

import gradio as gr

from phi3_ui.i18n.translate import BROWSER_TEXTS

I18N = gr.I18n(**BROWSER_TEXTS)


def browser_texts(keys: list[str]) -> dict[str, dict[str, str]]:
    """Texts for a script of our own, which Gradio does not translate: by language and key."""
    return {language: {key: texts[key] for key in keys} for language, texts in BROWSER_TEXTS.items()}
