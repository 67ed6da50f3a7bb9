"""Prompt template, system prompt, presets and sampling parameters."""

from typing import Any

import gradio as gr

from phi3_ui.chat.sampling_params import SAMPLING_PARAMS, SamplingParam
from phi3_ui.prompts.templates import TEMPLATES
from phi3_ui.ui.handlers.manage import ManageHandlers
from phi3_ui.ui.handlers.settings import SettingsHandlers
from phi3_ui.ui.page.components import Page, SettingsSection
from phi3_ui.ui.page.events import NOTIFYING, QUIET
from phi3_ui.ui.page.presets import build_settings_table, list_preset_texts
from phi3_ui.ui.page.scripts import module_js, record_settings_js
from phi3_ui.ui.page.texts import I18N, browser_texts

_TEXTS = (
    *("presets", "settings.reset", "settings.reset_one", "settings.changed", "system.preset", "system.none"),
    *("system.own", "system.included", "system.saved", "system.save", "system.name", "system.keep", "system.delete"),
    *("system.not_saved", "cancel"),
)


def create() -> SettingsSection:
    """Create the controls."""
    t = I18N
    texts = {
        language: {**texts, **list_preset_texts()[language]} for language, texts in browser_texts([*_TEXTS]).items()
    }
    template = gr.Dropdown(
        choices=[(template.title, key) for key, template in TEMPLATES.items()],
        value=None,
        visible=False,
        label=t("template"),
        info=t("template_info"),
        elem_id="phi3-template",
    )
    with gr.Column(elem_id="phi3-settings"):
        presets = gr.HTML(
            js_on_load=module_js("settings/presets.js", texts, build_settings_table()),
            apply_default_css=False,
            elem_id="phi3-presets",
        )
        system = gr.Textbox(
            "", label=t("system_prompt"), info=t("system_info"), lines=3, max_lines=8, elem_id="phi3-set-system"
        )
        gr.HTML(
            js_on_load=module_js("settings/system_prompts.js", texts, build_settings_table()),
            apply_default_css=False,
            elem_id="phi3-system-presets",
        )
        return SettingsSection(template, presets, system, _create_controls())


def _create_controls() -> dict[str, Any]:
    """Create the controls by sampling parameter, in the order of the public endpoint's parameters."""
    return {param.name: _create_control(param) for param in SAMPLING_PARAMS}


def _create_control(param: SamplingParam) -> Any:
    shared: dict[str, Any] = {
        "label": I18N(param.label_key),
        "info": I18N(param.help_key) if param.help_key else None,
        "elem_id": f"phi3-set-{param.name}",
    }
    if slider := param.slider:
        return gr.Slider(slider.minimum, slider.maximum, param.control_default, step=slider.step, **shared)
    if isinstance(param.control_default, str):
        return gr.Textbox(param.control_default, lines=1, max_lines=4 if param.kind == "strings" else 1, **shared)
    return gr.Number(
        param.control_default, precision=0, **shared
    )  # parse_params checks the range, in the page's language


def wire(page: Page, manage: ManageHandlers) -> None:
    """Connect the template picker, the presets, and the recording of the settings in the browser."""
    section, inputs = page.settings, page.settings_inputs
    section.template.input(manage.pick_template, section.template, None, **NOTIFYING)
    section.presets.click(SettingsHandlers(page).apply, None, list(inputs.values()), **QUIET)
    changes = [component.change for component in inputs.values()]
    gr.on(changes, None, list(inputs.values()), None, js=record_settings_js(list(inputs)), **QUIET)
