"""Prompt template, system prompt and sampling parameters."""

from typing import Any

import gradio as gr

from phi3_ui.prompts.templates import TEMPLATES
from phi3_ui.ui.handlers.manage import ManageHandlers
from phi3_ui.ui.page.components import Page, SettingsSection
from phi3_ui.ui.page.events import QUIET
from phi3_ui.ui.page.texts import I18N


def create() -> SettingsSection:
    t = I18N
    template = gr.Dropdown(
        choices=[(template.title, key) for key, template in TEMPLATES.items()],
        value=None,
        visible=False,
        label=t("template"),
        info=t("template_info"),
        elem_id="phi3-template",
    )
    with gr.Accordion(t("settings"), open=False, elem_id="phi3-settings"):
        system = gr.Textbox("", label=t("system_prompt"), info=t("system_info"), lines=2, max_lines=8)
        return SettingsSection(template, system, _create_controls())


def _create_controls() -> dict[str, Any]:
    """By name of the field of GenerationParams, in the order of the public endpoint's parameters."""
    t = I18N
    controls = {
        "temperature": gr.Slider(0, 2, 0.2, step=0.05, label=t("temperature"), info=t("temperature_info")),
        "top_p": gr.Slider(0.05, 1, 0.95, step=0.05, label=t("top_p")),
        "max_tokens": gr.Slider(1, 4096, 512, step=1, label=t("max_tokens")),
        "top_k": gr.Number(50, label=t("top_k"), info=t("top_k_info"), precision=0, minimum=0),
        "stop": gr.Textbox("", label=t("stop_strings"), info=t("stop_info"), lines=1, max_lines=4),
        # Not a Number: that shows 0 where it is empty.
        "seed": gr.Textbox("", label=t("seed"), info=t("seed_info"), max_lines=1),
        "repetition_penalty": gr.Slider(1, 2, 1, step=0.05, label=t("repetition_penalty")),
        "presence_penalty": gr.Slider(-2, 2, 0, step=0.1, label=t("presence_penalty")),
        "frequency_penalty": gr.Slider(-2, 2, 0, step=0.1, label=t("frequency_penalty")),
    }
    gr.Number(1, label=t("n"), info=t("n_off"), precision=0, interactive=False)
    return controls


def wire(page: Page, manage: ManageHandlers) -> None:
    template = page.settings.template
    template.input(manage.pick_template, template, None, **QUIET)
