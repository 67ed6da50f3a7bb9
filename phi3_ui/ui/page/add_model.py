"""Log a model into the store: a preset, other weights, or the selected model once more."""

import gradio as gr

from models.presets import preset_keys
from phi3_ui.i18n.translate import TEXTS
from phi3_ui.provision.recipes import DEVICES, PRECISIONS
from phi3_ui.settings import Settings
from phi3_ui.ui.handlers.manage import ManageHandlers
from phi3_ui.ui.page.components import AddModelSection, Page
from phi3_ui.ui.page.events import QUIET
from phi3_ui.ui.page.scripts import OPEN_ADD_MODEL_JS, module_js
from phi3_ui.ui.page.texts import I18N, browser_texts
from phi3_ui.ui.render.model_presets import describe_presets

_PROGRESS_SECONDS = 0.5


def create(settings: Settings) -> AddModelSection:
    """Create the dialog "Add a model". static/models/dialog.js opens and closes it; a closed one keeps all it holds."""
    t = I18N
    with gr.Column(elem_id="phi3-add"), gr.Column(elem_id="phi3-add-box"):
        _drawn(None, "models/dialog.js", ["add", "close"], "phi3-add-head")
        if not settings.manage:
            gr.HTML(t("error.management_disabled"), elem_classes="phi3-quiet")
        preset = gr.Textbox(preset_keys()[0], visible="hidden", max_lines=1, elem_id="phi3-add-preset")
        cards = {language: describe_presets(language) for language in TEXTS}
        _drawn(cards, "models/presets.js", ["add.preset"], "phi3-add-presets")
        with gr.Column(elem_id="phi3-add-own"):
            kinds = [("pipeline", t("add.pipeline")), ("onnx", t("add.onnx")), ("build_onnx", t("add.build"))]
            kind = gr.Radio([(text, key) for key, text in kinds], value="pipeline", label=t("add.kind"))
            source = gr.Textbox("", label=t("add.source"), info=t("add.source_info"), max_lines=1)
            name = gr.Textbox("", label=t("add.name"), info=t("add.name_info"), max_lines=1)
            precision = gr.Dropdown(list(PRECISIONS), value="int4", label=t("add.precision"))
        with gr.Row(elem_id="phi3-add-where"):
            device = gr.Dropdown(list(DEVICES), value=settings.device, label=t("add.device"), min_width=120)
            revision = gr.Textbox("", label=t("add.revision"), info=t("add.revision_info"), max_lines=1, scale=2)
        progress = gr.HTML(js_on_load=module_js("models/job.js", browser_texts([])), elem_id="phi3-add-progress")
        with gr.Row():
            add = gr.Button(t("add.start"), variant="primary", interactive=settings.manage, elem_id="phi3-add-go")
            cancel = gr.Button(t("add.cancel"), visible=False, elem_id="phi3-add-cancel")
    return AddModelSection(
        form={
            "preset": preset,
            "kind": kind,
            "source": source,
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


def wire(page: Page, manage: ManageHandlers, blocks: gr.Blocks) -> None:
    """Connect the form, its progress and the card's button to log again."""
    section = page.add_model
    outputs = [section.progress, section.cancel, section.add, section.ticker]
    outputs += [*page.menu_outputs, *page.card_outputs]
    section.add.click(manage.add, None, outputs, inputs_kwargs=section.form, **QUIET)
    page.card.relog.click(manage.relog, None, outputs, **QUIET)
    page.card.relog.click(None, None, None, js=OPEN_ADD_MODEL_JS)
    section.cancel.click(manage.cancel, None, outputs, **QUIET)
    section.ticker.tick(manage.tick, None, outputs, **QUIET)
    blocks.load(manage.resume, None, outputs, **QUIET)


def _drawn(value: object, module: str, texts: list[str], elem_id: str) -> None:
    gr.HTML(
        value,
        html_template="",
        js_on_load=module_js(module, browser_texts(texts)),
        apply_default_css=False,
        padding=False,
        elem_id=elem_id,
    )
