"""Components and wiring only: the page, and which handler each event goes to."""

import gradio as gr

from phi3_ui.chat.templates import TEMPLATES
from phi3_ui.host.pool import Pool
from phi3_ui.settings import Settings
from phi3_ui.setup import Setup
from phi3_ui.store.catalogue import Catalogue
from phi3_ui.ui.handlers import Handlers
from phi3_ui.ui.i18n import TEXTS
from phi3_ui.ui.manage import ManageHandlers
from phi3_ui.ui.manage_layout import manage_panels, parameter_controls, wire_manage
from phi3_ui.ui.page import Page
from phi3_ui.ui.sessions import Sessions
from phi3_ui.ui.texts import I18N
from phi3_ui.ui.theme import SHUT_DRAWERS

_SETUP_EVERY = 0.5  # seconds
_STATUS_EVERY = 5.0


def build_ui(settings: Settings, catalogue: Catalogue, pool: Pool, setup: Setup) -> gr.Blocks:
    """The page over its collaborators; the caller launches it."""
    t = I18N
    with gr.Blocks(title=TEXTS["en"]["title"], fill_width=True, fill_height=True, analytics_enabled=False) as blocks:
        with gr.Sidebar(label=t("conversations"), position="left", width=260, elem_id="phi3-left"):
            new_chat = gr.Button(t("new_chat"), variant="primary", elem_id="phi3-new")
            chats = gr.Radio(choices=[], label=t("chats"), info=t("chats_note"), visible=False, elem_id="phi3-chats")

        with gr.Column(elem_id="phi3-setup-view") as setup_view:
            setup_panel = gr.HTML()
            retry_setup = gr.Button(t("retry_setup"), visible=False)

        with gr.Column(visible=False, elem_id="phi3-main") as chat_view:
            with gr.Row(elem_id="phi3-pick"):
                picker = gr.Dropdown(choices=[], label=t("model"), elem_id="phi3-picker", scale=4)
                # A page may outlive a restart of the server, or be a program: what its value names is looked up in
                # the store, not among the choices that this session was last given.
                picker.allow_custom_value = True
            chatbot = gr.Chatbot(
                label=t("chat"),
                show_label=False,
                placeholder=t("placeholder"),
                buttons=["copy"],
                group_consecutive_messages=False,
                layout="panel",
                elem_id="phi3-chat",
            )
            context = gr.HTML(elem_id="phi3-context")
            with gr.Row(elem_id="phi3-composer"):
                message = gr.Textbox(
                    label=t("message"),
                    show_label=False,
                    placeholder=t("message_placeholder"),
                    lines=1,
                    max_lines=8,
                    autofocus=True,
                    container=False,
                    scale=5,
                    elem_id="phi3-message",
                )
                send = gr.Button(t("send"), variant="primary", scale=0, elem_id="phi3-send")
                stop = gr.Button(t("stop"), variant="stop", scale=0, visible=False, elem_id="phi3-stop")

        with gr.Sidebar(label=t("model"), position="right", width=340, elem_id="phi3-right"):
            status = gr.HTML(elem_id="phi3-status")
            with gr.Row():
                refresh = gr.Button(t("refresh"), size="sm", min_width=80, elem_id="phi3-refresh")
                unload = gr.Button(t("unload"), size="sm", min_width=80, interactive=False, elem_id="phi3-unload")
            with gr.Accordion(t("usage"), open=True):
                usage = gr.HTML(elem_id="phi3-usage")
            template = gr.Dropdown(
                choices=[(words.title, key) for key, words in TEMPLATES.items()],
                value=None,
                visible=False,
                label=t("template"),
                info=t("template_info"),
                elem_id="phi3-template",
            )
            with gr.Accordion(t("settings"), open=False, elem_id="phi3-settings"):
                system = gr.Textbox("", label=t("system_prompt"), info=t("system_info"), lines=2, max_lines=8)
                controls = parameter_controls()
            with gr.Accordion(t("metadata"), open=True):
                card = gr.HTML(elem_id="phi3-card")
                relog = gr.Button(t("relog"), size="sm", visible=False, elem_id="phi3-relog")
            manage = manage_panels(settings, template, relog)

        ticker = gr.Timer(_SETUP_EVERY)
        status_ticker = gr.Timer(_STATUS_EVERY)
        page = Page(
            setup_view=setup_view,
            setup_panel=setup_panel,
            retry_setup=retry_setup,
            chat_view=chat_view,
            ticker=ticker,
            chats=chats,
            picker=picker,
            template=template,
            controls=controls,
            status=status,
            unload=unload,
            chatbot=chatbot,
            context=context,
            message=message,
            send=send,
            stop=stop,
            usage=usage,
            card=card,
            relog=relog,
        )
        handlers = Handlers(page, settings, catalogue, pool, setup, Sessions())
        models = handlers.models

        quiet = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
        model_outputs = [status, unload]
        card_outputs = [card, relog, template, *controls.values()]
        chat_outputs = [chatbot, usage, context, chats, send, stop]
        ready_outputs = [setup_view, setup_panel, retry_setup, chat_view, ticker, picker, status, *chat_outputs]

        blocks.load(None, None, None, js=SHUT_DRAWERS)
        gr.on([blocks.load, ticker.tick], handlers.tick, None, ready_outputs, **quiet)
        retry_setup.click(handlers.retry_setup, None, ready_outputs, **quiet)
        refresh.click(models.list_models, None, [picker, status], **quiet)
        status_ticker.tick(models.status, None, model_outputs, **quiet)
        unload.click(models.unload, None, model_outputs, **quiet)
        picker.change(
            models.pick,
            picker,
            [*card_outputs, *model_outputs, context],
            show_progress="hidden",
            concurrency_limit=None,
            trigger_mode="multiple",
            api_visibility="private",
        )
        asked = gr.on(
            [message.submit, send.click],
            handlers.send,
            [message, picker, system, *controls.values()],
            [message, chatbot, send, stop, chats],
            show_progress="hidden",
            concurrency_limit=None,
            trigger_mode="multiple",
            api_name="chat",
        )
        asked.then(handlers.after_turn, None, [usage, context, chats, *model_outputs], **quiet)
        stop.click(handlers.stop, None, None, **quiet)
        new_chat.click(handlers.new_chat, None, chat_outputs, **quiet)
        chats.input(handlers.open_chat, chats, chat_outputs, **quiet)
        managing = ManageHandlers(manage.page, settings, catalogue, handlers.session, models.shown_model)
        wire_manage(manage, managing, [picker, status, *card_outputs])
        blocks.unload(handlers.leave)
    return blocks
