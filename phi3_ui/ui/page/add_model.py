"""Log a model to the store: a preset, custom weights, or the selected model again."""

from typing import Any

import gradio as gr

from models.presets import preset_keys
from phi3_ui.i18n.translate import TEXTS
from phi3_ui.provision.recipes import DEVICES, PRECISIONS
from phi3_ui.remote_servers import DIALECTS
from phi3_ui.settings import Settings
from phi3_ui.ui.handlers.manage import ManageHandlers
from phi3_ui.ui.page.components import AddModelSection, Page
from phi3_ui.ui.page.events import NOTIFYING, QUIET
from phi3_ui.ui.page.scripts import OPEN_ADD_MODEL_JS, module_js
from phi3_ui.ui.page.texts import I18N, browser_texts
from phi3_ui.ui.render.model_presets import describe_presets

_PROGRESS_SECONDS = 0.5


def create(settings: Settings) -> AddModelSection:
    """Create the dialog "Add a model". static/models/dialog.js opens and closes it; closing keeps its contents."""
    t = I18N
    with gr.Column(elem_id="phi3-add"), gr.Column(elem_id="phi3-add-box"):
        _create_html(None, "models/dialog.js", ["add", "close"], "phi3-add-head")
        if not settings.manage:
            gr.HTML(t("error.management_disabled"), elem_classes="phi3-quiet")
        preset = gr.Textbox(preset_keys()[0], visible="hidden", max_lines=1, elem_id="phi3-add-preset")
        cards = {language: describe_presets(language, with_remote=settings.is_single_user) for language in TEXTS}
        _create_html(cards, "models/presets.js", ["add.preset"], "phi3-add-presets")
        with gr.Column(elem_id="phi3-add-own"):
            kinds = [("pipeline", t("add.pipeline")), ("onnx", t("add.onnx")), ("build_onnx", t("add.build"))]
            kind = gr.Radio([(text, key) for key, text in kinds], value="pipeline", label=t("add.kind"))
            source = gr.Textbox("", label=t("add.source"), info=t("add.source_info"), max_lines=1)
            name = gr.Textbox("", label=t("add.name"), info=t("add.name_info"), max_lines=1)
            precision = gr.Dropdown(list(PRECISIONS), value="int4", label=t("add.precision"))
        remote = _create_remote_fields()
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
            **remote,
        },
        add=add,
        cancel=cancel,
        progress=progress,
        ticker=gr.Timer(_PROGRESS_SECONDS, active=False),
    )


def _create_remote_fields() -> dict[str, Any]:
    """Create the fields that describe a remote server; keys are argument names of ManageHandlers.add."""
    t = I18N
    with gr.Column(elem_id="phi3-add-remote"):
        url = gr.Textbox("", label=t("remote.url"), info=t("remote.url_info"), max_lines=1)
        with gr.Row():
            name = gr.Textbox("", label=t("remote.name"), info=t("remote.name_info"), max_lines=1, min_width=120)
            kind = gr.Dropdown(list(DIALECTS), value="openai", label=t("remote.kind"), min_width=120)
        models = gr.Textbox("", label=t("remote.models"), info=t("remote.models_info"), max_lines=1)
        with gr.Row():
            key = gr.Textbox(
                "", label=t("remote.key"), info=t("remote.key_info"), type="password", max_lines=1, min_width=120
            )
            version = gr.Textbox(
                "", label=t("remote.api_version"), info=t("remote.api_version_info"), max_lines=1, min_width=120
            )
    return {
        "remote_url": url,
        "remote_name": name,
        "remote_kind": kind,
        "remote_models": models,
        "remote_key": key,
        "remote_api_version": version,
    }


def wire(page: Page, manage: ManageHandlers, blocks: gr.Blocks) -> None:
    """Connect the form, its progress, and the card's button that logs the model again."""
    section = page.add_model
    outputs = [section.progress, section.cancel, section.add, section.ticker]
    outputs += [section.form["remote_key"], *page.menu_outputs, *page.card_outputs]
    section.add.click(manage.add, None, outputs, inputs_kwargs=section.form, **QUIET)
    page.card.relog.click(manage.relog, None, outputs, **QUIET)
    page.card.forget.click(manage.forget_server, None, [*page.menu_outputs, *page.card_outputs], **NOTIFYING)
    page.card.relog.click(None, None, None, js=OPEN_ADD_MODEL_JS)
    section.cancel.click(manage.cancel, None, outputs, **QUIET)
    section.ticker.tick(manage.tick, None, outputs, **QUIET)
    blocks.load(manage.resume, None, outputs, **QUIET)


def _create_html(value: object, module: str, texts: list[str], elem_id: str) -> None:
    gr.HTML(
        value,
        html_template="",
        js_on_load=module_js(module, browser_texts(texts)),
        apply_default_css=False,
        padding=False,
        elem_id=elem_id,
    )
