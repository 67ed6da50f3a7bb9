"""Components and wiring of the panels that change models, and of the settings that a model may heed."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from models.presets import load_preset, preset_keys
from phi3_ui.provision.recipes import DEVICES, PRECISIONS
from phi3_ui.settings import Settings
from phi3_ui.ui.handlers.manage import OWN, ManageHandlers, ManagePage
from phi3_ui.ui.page.texts import I18N

_PROGRESS_EVERY = 0.5  # seconds


def parameter_controls() -> dict[str, Any]:
    """By the name of the field of GenerationParams that each sets, in the order that the page's API has."""
    t = I18N
    controls = {
        "temperature": gr.Slider(0, 2, 0.2, step=0.05, label=t("temperature"), info=t("temperature_info")),
        "top_p": gr.Slider(0.05, 1, 0.95, step=0.05, label=t("top_p")),
        "max_tokens": gr.Slider(1, 4096, 512, step=1, label=t("max_tokens")),
        "top_k": gr.Number(50, label=t("top_k"), info=t("top_k_info"), precision=0, minimum=0),
        "stop": gr.Textbox("", label=t("stop_strings"), info=t("stop_info"), lines=1, max_lines=4),
        # A Number shows 0 where it holds nothing.
        "seed": gr.Textbox("", label=t("seed"), info=t("seed_info"), max_lines=1),
        "repetition_penalty": gr.Slider(1, 2, 1, step=0.05, label=t("repetition_penalty")),
        "presence_penalty": gr.Slider(-2, 2, 0, step=0.1, label=t("presence_penalty")),
        "frequency_penalty": gr.Slider(-2, 2, 0, step=0.1, label=t("frequency_penalty")),
    }
    gr.Number(1, label=t("n"), info=t("n_off"), precision=0, interactive=False)
    return controls


@dataclass(frozen=True)
class ManagePanels:
    """What the handlers write to, and what only sends events."""

    page: ManagePage
    preset: gr.Dropdown
    form: tuple[Any, ...]
    ask: gr.Button
    confirm: gr.Button
    refuse: gr.Button


def manage_panels(settings: Settings, template: gr.Dropdown, relog: gr.Button) -> ManagePanels:
    t = I18N
    with gr.Accordion(t("registry"), open=False, elem_id="phi3-registry"):
        alias = gr.Radio(["champion", "challenger"], value="champion", label=t("promote.alias"))
        if not settings.manage:
            gr.HTML(t("error.not_allowed"), elem_classes="phi3-quiet")
        ask = gr.Button(t("promote.ask"), size="sm", interactive=settings.manage)
        question = gr.HTML(elem_id="phi3-promotion")
        with gr.Group(visible=False) as confirmation, gr.Row():
            confirm = gr.Button(t("promote.confirm"), variant="primary", size="sm", min_width=80)
            refuse = gr.Button(t("promote.cancel"), size="sm", min_width=80)
    with gr.Accordion(t("add"), open=False, elem_id="phi3-add"):
        if not settings.manage:
            gr.HTML(t("error.not_allowed"), elem_classes="phi3-quiet")
        presets = [(load_preset(key).origin.title, key) for key in preset_keys()]
        preset = gr.Dropdown([*presets, (t("add.own"), OWN)], value=presets[0][1], label=t("add.preset"))
        with gr.Group(visible=False) as own:
            pipeline = gr.Textbox("", label=t("add.pipeline"), info=t("add.source_info"), max_lines=1)
            onnx = gr.Textbox("", label=t("add.onnx"), info=t("add.onnx_info"), max_lines=1)
            build = gr.Textbox("", label=t("add.build"), info=t("add.source_info"), max_lines=1)
            precision = gr.Dropdown(list(PRECISIONS), value="int4", label=t("add.precision"))
            name = gr.Textbox("", label=t("add.name"), info=t("add.name_info"), max_lines=1)
        device = gr.Dropdown(list(DEVICES), value=settings.device, label=t("add.device"))
        revision = gr.Textbox("", label=t("add.revision"), info=t("add.revision_info"), max_lines=1)
        with gr.Row():
            add = gr.Button(t("add.start"), size="sm", min_width=80, interactive=settings.manage, elem_id="phi3-add-go")
            cancel = gr.Button(t("add.cancel"), size="sm", min_width=80, visible=False, elem_id="phi3-add-cancel")
        progress = gr.HTML(elem_id="phi3-add-progress")
    ticker = gr.Timer(_PROGRESS_EVERY, active=False)
    page = ManagePage(
        template=template,
        own=own,
        add=add,
        cancel=cancel,
        progress=progress,
        ticker=ticker,
        alias=alias,
        confirmation=confirmation,
        question=question,
        relog=relog,
    )
    form = (preset, pipeline, onnx, build, precision, name, device, revision)
    return ManagePanels(page, preset, form, ask, confirm, refuse)


def wire_manage(panels: ManagePanels, handlers: ManageHandlers, shown: list[Any]) -> None:
    """`shown` are the components that list the models, drawn again when those have changed."""
    page = panels.page
    quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    adding = [page.progress, page.cancel, page.add, page.ticker, *shown]
    asking = [page.question, page.confirmation, *shown]
    panels.preset.change(handlers.choose_source, panels.preset, page.own, **quiet)
    page.add.click(handlers.add, list(panels.form), adding, **quiet)
    page.relog.click(handlers.relog, None, adding, **quiet)
    page.cancel.click(handlers.cancel, None, adding, **quiet)
    page.ticker.tick(handlers.tick, None, adding, **quiet)
    panels.ask.click(handlers.ask_promote, page.alias, asking, **quiet)
    panels.confirm.click(handlers.promote, None, asking, **quiet)
    panels.refuse.click(handlers.forget_promotion, None, asking, **quiet)
    page.template.input(handlers.pick_template, page.template, None, **quiet)
