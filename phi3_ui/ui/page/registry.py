"""Promote a registered version to an alias."""

import gradio as gr

from phi3_ui.settings import Settings
from phi3_ui.ui.handlers.manage import ManageHandlers
from phi3_ui.ui.page.components import Page, RegistrySection
from phi3_ui.ui.page.events import QUIET
from phi3_ui.ui.page.texts import I18N


def create(settings: Settings) -> RegistrySection:
    """Create the accordion "Registry"; its button is disabled if models may not be changed."""
    t = I18N
    with gr.Accordion(t("registry"), open=False, elem_id="phi3-registry"):
        alias = gr.Radio(["champion", "challenger"], value="champion", label=t("promote.alias"))
        if not settings.manage:
            gr.HTML(t("error.management_disabled"), elem_classes="phi3-quiet")
        ask = gr.Button(t("promote.ask"), size="sm", interactive=settings.manage)
        question = gr.HTML(elem_id="phi3-promotion")
        with gr.Group(visible=False) as confirmation, gr.Row():
            confirm = gr.Button(t("promote.confirm"), variant="primary", size="sm", min_width=80)
            refuse = gr.Button(t("promote.cancel"), size="sm", min_width=80)
    return RegistrySection(alias, ask, question, confirmation, confirm, refuse)


def wire(page: Page, manage: ManageHandlers) -> None:
    """Connect promotion, which takes a second step to confirm."""
    section = page.registry
    outputs = [section.question, section.confirmation, *page.menu_outputs, *page.card_outputs]
    section.ask.click(manage.ask_promote, section.alias, outputs, **QUIET)
    section.confirm.click(manage.promote, None, outputs, **QUIET)
    section.refuse.click(manage.forget_promotion, None, outputs, **QUIET)
