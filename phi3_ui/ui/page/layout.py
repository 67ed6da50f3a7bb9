"""The layout of the page's sections. The sections create their components and wire their events themselves."""

import gradio as gr

from phi3_ui.i18n.translate import tr
from phi3_ui.settings import Settings
from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.handlers.compare import CompareController
from phi3_ui.ui.handlers.compare_meter import CompareMeter
from phi3_ui.ui.handlers.evaluations import EvaluationsController
from phi3_ui.ui.handlers.export import ExportController
from phi3_ui.ui.handlers.imports import ImportController
from phi3_ui.ui.handlers.manage import ManageHandlers
from phi3_ui.ui.handlers.ratings import RatingsController
from phi3_ui.ui.handlers.replay import ReplayController
from phi3_ui.ui.handlers.usage_overview import UsageOverview
from phi3_ui.ui.page import (
    add_model,
    browser,
    chat,
    compare,
    composer,
    conversations,
    endpoint,
    evaluations,
    export,
    model,
    ratings,
    registry,
    replay,
    reproduce,
    settings,
    setup,
    shell,
    usage,
)
from phi3_ui.ui.page.components import Page
from phi3_ui.ui.page.streamed_blocks import KnownFunctions, StreamedBlocks
from phi3_ui.ui.services import Services


def build_ui(services: Services) -> gr.Blocks:
    """Build the page, which the caller serves."""
    blocks = StreamedBlocks(title=tr("en", "title"), fill_width=True, fill_height=True, analytics_enabled=False)
    blocks.space_id = None  # with a Space id, the page asks huggingface.co whether the Space is running, and does nothing if that fails
    with blocks:
        _wire(blocks, _create_page(services.settings), services)
    blocks.default_config.fns = KnownFunctions(blocks.default_config.fns)
    return blocks


def _create_page(app_settings: Settings) -> Page:
    with gr.Row(elem_id="phi3-shell"):
        shell.create_start()
        with gr.Column(elem_id="phi3-left"):
            shell.create_brand()
            conversations_section = conversations.create()
            export_section = export.create(app_settings)
        with gr.Column(elem_id="phi3-centre"):
            with gr.Row(elem_id="phi3-header"):
                shell.create_toggle("left")
                header = model.create_header()
                shell.create_toggle("right")
            setup_section = setup.create()
            with gr.Column(visible=False, elem_id="phi3-main") as chat_view:
                chat_section = chat.create()
                composer_section = composer.create()
            replay_section = replay.create()
            compare_section = compare.create()
            ratings_section = ratings.create()
            evaluations_section = evaluations.create()
            usage_view = usage.create_overview()
        with gr.Column(elem_id="phi3-right"):
            shell.create_tabs()
            with gr.Column(elem_id="phi3-tab-usage"):
                usage_section = usage.create(usage_view)
            with gr.Column(elem_id="phi3-tab-model"):
                status_section, card_section = model.create_card(header)
                registry_section = registry.create(app_settings)
            with gr.Column(elem_id="phi3-tab-settings"):
                settings_section = settings.create()
        shell.create_scrim()
        add_model_section = add_model.create(app_settings)
    return Page(
        setup=setup_section,
        chat_view=chat_view,
        conversations=conversations_section,
        export=export_section,
        header=header,
        chat=chat_section,
        composer=composer_section,
        replay=replay_section,
        compare=compare_section,
        ratings=ratings_section,
        evaluations=evaluations_section,
        status=status_section,
        program=reproduce.create(),
        usage=usage_section,
        settings=settings_section,
        card=card_section,
        registry=registry_section,
        add_model=add_model_section,
        browser=browser.create(),
        endpoint=endpoint.create(),
    )


def _wire(blocks: gr.Blocks, page: Page, services: Services) -> None:
    chats = ChatController(page, services)
    exports = ExportController(page, services, chats.chats, chats.session)
    imports = ImportController(page, services, chats.chats, chats.session)
    replays = ReplayController(page, services, chats.answer_starter, chats.chats, chats.session)
    comparisons = CompareController(page, services, chats.answer_starter, chats.chats, chats.session)
    compare_meter = CompareMeter(page, services, chats.models.meter, chats.session)
    RatingsController(page, services, chats.chats)
    evaluated = EvaluationsController(page, services, chats.chats, chats.session)
    overview = UsageOverview(page, services.conversations.history, chats.chats, chats.session)
    manage = ManageHandlers(page, services, chats.session, chats.models.show_selected_model)

    resumed = setup.wire(page, chats, blocks)
    endpoint.wire(page, chats)
    model.wire(page, chats, exports)
    settings.wire(page, manage)
    registry.wire(page, manage)
    add_model.wire(page, manage, blocks)
    conversations.wire(page, chats)
    export.wire(page, imports, resumed)
    replay.wire(page, replays, resumed)
    compare.wire(page, comparisons, compare_meter, resumed)
    evaluations.wire(page, evaluated)
    usage.refresh_after_answers(page, chats, overview, [resumed, composer.wire(page, chats), chat.wire(page, chats)])
