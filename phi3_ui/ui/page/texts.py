"""The page's own words, which Gradio puts into the browser's language."""

import gradio as gr

from phi3_ui.i18n.translate import TEXTS

I18N = gr.I18n(**TEXTS)
