"""The page's constant texts, which Gradio translates in the browser."""

import gradio as gr

from phi3_ui.i18n.translate import BROWSER_TEXTS

I18N = gr.I18n(**BROWSER_TEXTS)
