"""Prompt template, system prompt and sampling parameters."""

from typing import Any

import gradio as gr

from phi3_ui.chat.sampling_params import SAMPLING_PARAMS, SamplingParam
from phi3_ui.prompts.templates import TEMPLATES
from phi3_ui.ui.handlers.manage import ManageHandlers
from phi3_ui.ui.page.components import Page, SettingsSection
from phi3_ui.ui.page.events import QUIET
from phi3_ui.ui.page.scripts import record_settings_js
from phi3_ui.ui.page.texts import I18N


def create() -> SettingsSection:
    """Create the controls."""
    t = I18N
    template = gr.Dropdown(
        choices=[(template.title, key) for key, template in TEMPLATES.items()],
        value=None,
        visible=False,
        label=t("template"),
        info=t("template_info"),
        elem_id="phi3-template",
    )
    with gr.Column(elem_id="phi3-settings"):
        system = gr.Textbox("", label=t("system_prompt"), info=t("system_info"), lines=2, max_lines=8)
        return SettingsSection(template, system, _create_controls())


def _create_controls() -> dict[str, Any]:
    """By name of the sampling parameter, in the order of the public endpoint's parameters."""
    controls = {param.name: _create_control(param) for param in SAMPLING_PARAMS}
    gr.Number(1, label=I18N("n"), info=I18N("n_off"), precision=0, interactive=False)
    return controls


def _create_control(param: SamplingParam) -> Any:
    labels: dict[str, Any] = {"label": I18N(param.label_key), "info": I18N(param.help_key) if param.help_key else None}
    if slider := param.slider:
        return gr.Slider(slider.minimum, slider.maximum, param.control_default, step=slider.step, **labels)
    if isinstance(param.control_default, str):
        return gr.Textbox(param.control_default, lines=1, max_lines=4 if param.kind == "strings" else 1, **labels)
    return gr.Number(param.control_default, precision=0, minimum=param.minimum, **labels)


def wire(page: Page, manage: ManageHandlers) -> None:
    """Connect the template picker."""
    template = page.settings.template
    template.input(manage.pick_template, template, None, **QUIET)
    inputs = page.settings_inputs
    changes = [component.change for component in inputs.values()]
    gr.on(changes, None, list(inputs.values()), None, js=record_settings_js(list(inputs)), **QUIET)
