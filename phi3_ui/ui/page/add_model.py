"""Log a model into the store: a preset, other weights, or the selected model once more."""

import gradio as gr

from models.presets import load_preset, preset_keys
from phi3_ui.provision.recipes import DEVICES, PRECISIONS
from phi3_ui.settings import Settings
from phi3_ui.ui.handlers.manage import OWN, ManageHandlers
from phi3_ui.ui.page.components import AddModelSection, Page
from phi3_ui.ui.page.events import QUIET
from phi3_ui.ui.page.texts import I18N

_PROGRESS_SECONDS = 0.5


def create(settings: Settings) -> AddModelSection:
    """Create the accordion "Add a model"."""
    t = I18N
    with gr.Accordion(t("add"), open=False, elem_id="phi3-add"):
        if not settings.manage:
            gr.HTML(t("error.management_disabled"), elem_classes="phi3-quiet")
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
    return AddModelSection(
        preset=preset,
        own=own,
        form={
            "preset": preset,
            "pipeline": pipeline,
            "onnx": onnx,
            "build_onnx": build,
            "precision": precision,
            "name": name,
            "device": device,
            "revision": revision,
        },
        add=add,
        cancel=cancel,
        progress=progress,
        ticker=gr.Timer(_PROGRESS_SECONDS, active=False),
    )


def wire(page: Page, manage: ManageHandlers) -> None:
    """Connect the form, its progress and the card's button to log again."""
    section = page.add_model
    outputs = [section.progress, section.cancel, section.add, section.ticker]
    outputs += [*page.menu_outputs, *page.card_outputs]
    section.preset.change(manage.choose_source, section.preset, section.own, **QUIET)
    section.add.click(manage.add, None, outputs, inputs_kwargs=section.form, **QUIET)
    page.card.relog.click(manage.relog, None, outputs, **QUIET)
    section.cancel.click(manage.cancel, None, outputs, **QUIET)
    section.ticker.tick(manage.tick, None, outputs, **QUIET)
