"""Components and wiring only: the page, and which handler each event goes to."""

import gradio as gr

from phi3_ui.host.pool import Pool
from phi3_ui.i18n.translate import TEXTS
from phi3_ui.prompts.templates import TEMPLATES
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from phi3_ui.store.conversations.turn_writer import ConversationStore
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.handlers.export import DOWNLOAD_JS, ExportController
from phi3_ui.ui.handlers.manage import ManageHandlers
from phi3_ui.ui.handlers.replay import ReplayController
from phi3_ui.ui.handlers.usage_over_time import UsageOverTime
from phi3_ui.ui.page.components import Page
from phi3_ui.ui.page.manage_panel import manage_panels, parameter_controls, wire_manage
from phi3_ui.ui.page.scripts import PLACE, SHOW_SNIPPET, SHUT_DRAWERS, WHO
from phi3_ui.ui.page.texts import I18N
from phi3_ui.ui.page.usage_plots import chat_plots, model_plots
from phi3_ui.ui.render.actions import ACTS_JS
from phi3_ui.ui.render.mlflow_links import MlflowLinks
from phi3_ui.ui.sessions import Sessions

_SETUP_EVERY = 0.5  # seconds
_STATUS_EVERY = 5.0


def build_ui(
    settings: Settings,
    catalogue: Catalogue,
    pool: Pool,
    setup: FirstRun,
    keeper: ConversationStore,
    sessions: Sessions,
    mlflow: MlflowLinks,
) -> gr.Blocks:
    """The page over its collaborators; the caller launches it."""
    t = I18N
    with gr.Blocks(title=TEXTS["en"]["title"], fill_width=True, fill_height=True, analytics_enabled=False) as blocks:
        with gr.Sidebar(label=t("conversations"), position="left", width=260, elem_id="phi3-left"):
            new_chat = gr.Button(t("new_chat"), variant="primary", elem_id="phi3-new")
            search = gr.Textbox(
                label=t("search"),
                show_label=False,
                placeholder=t("search"),
                max_lines=1,
                container=False,
                elem_id="phi3-search",
            )
            chats = gr.HTML(elem_id="phi3-chats")
            with gr.Accordion(t("share"), open=False, elem_id="phi3-share"):
                as_markdown = gr.Button(t("share.markdown"), size="sm")
                as_json = gr.Button(t("share.json"), size="sm")
                everything = gr.Button(t("share.all"), size="sm")
                upload = gr.UploadButton(
                    t("share.import"), file_types=[".json", ".zip"], size="sm", elem_id="phi3-import"
                )
            replay = gr.Button(t("replay"), size="sm", elem_id="phi3-replay-ask")
            download = gr.HTML(html_template="", visible="hidden", js_on_load=DOWNLOAD_JS)

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
            warning = gr.HTML(elem_id="phi3-warning")
            editing = gr.HTML(elem_id="phi3-editing")
            with gr.Group(visible=False, elem_id="phi3-comment") as comment_group, gr.Row():
                comment = gr.Textbox(
                    label=t("comment"),
                    show_label=False,
                    placeholder=t("comment"),
                    max_lines=3,
                    container=False,
                    scale=5,
                )
                comment_keep = gr.Button(t("comment.keep"), size="sm", scale=0, min_width=80)
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

            with gr.Column(visible=False, elem_id="phi3-replay") as replay_view:
                with gr.Row():
                    replay_back = gr.Button(t("replay.back"), size="sm", scale=0, min_width=140)
                    replay_stop = gr.Button(t("stop"), variant="stop", size="sm", scale=0, min_width=80, visible=False)
                replay_note = gr.HTML()
                replay_html = gr.HTML()

        with gr.Sidebar(label=t("model"), position="right", width=340, elem_id="phi3-right"):
            status = gr.HTML(elem_id="phi3-status")
            with gr.Row():
                refresh = gr.Button(t("refresh"), size="sm", min_width=80, elem_id="phi3-refresh")
                unload = gr.Button(t("unload"), size="sm", min_width=80, interactive=False, elem_id="phi3-unload")
            with gr.Accordion(t("reproduce"), open=False, visible=False, elem_id="phi3-reproduce") as snippet_panel:
                snippet = gr.Code(
                    label=t("reproduce.label"), language="python", interactive=False, max_lines=20, wrap_lines=True
                )
            with gr.Accordion(t("usage"), open=True):
                usage = gr.HTML(elem_id="phi3-usage")
            with gr.Accordion(t("usage.over_time"), open=False, elem_id="phi3-over-time") as over_time:
                totals = gr.HTML()
                of_chat, of_all = chat_plots(), model_plots()
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

        who = gr.Textbox(visible=False)  # the browser's secret, by which a visitor without a login is known again
        place = gr.JSON(visible=False)  # what the tab held before it was loaded anew
        acts = gr.HTML(visible="hidden", js_on_load=ACTS_JS, elem_id="phi3-acts")
        ticker = gr.Timer(_SETUP_EVERY)
        status_ticker = gr.Timer(_STATUS_EVERY)
        page = Page(
            setup_view=setup_view,
            setup_panel=setup_panel,
            retry_setup=retry_setup,
            chat_view=chat_view,
            ticker=ticker,
            chats=chats,
            warning=warning,
            picker=picker,
            template=template,
            controls=controls,
            status=status,
            unload=unload,
            replay_view=replay_view,
            replay_html=replay_html,
            replay_note=replay_note,
            replay_stop=replay_stop,
            chatbot=chatbot,
            context=context,
            editing=editing,
            comment_group=comment_group,
            comment=comment,
            message=message,
            send=send,
            stop=stop,
            usage=usage,
            card=card,
            relog=relog,
            snippet_panel=snippet_panel,
            snippet=snippet,
            download=download,
            upload=upload,
        )
        handlers = ChatController(page, settings, catalogue, pool, setup, keeper, sessions, mlflow)
        models = handlers.models

        quiet = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
        model_outputs = [status, unload]
        card_outputs = [card, relog, template, *controls.values()]
        chat_outputs = [chatbot, usage, context, chats, send, stop, warning, editing]
        chat_outputs += [comment_group, replay_view, snippet_panel]
        ready_outputs = [
            setup_view,
            setup_panel,
            retry_setup,
            chat_view,
            ticker,
            picker,
            status,
            message,
            *chat_outputs,
        ]

        blocks.load(None, None, None, js=SHUT_DRAWERS)
        arriving = f"() => [({WHO})(), ({PLACE})()]"
        gr.on([blocks.load, ticker.tick], handlers.tick, [who, place], ready_outputs, js=arriving, **quiet)
        retry_setup.click(handlers.retry_setup, [who, place], ready_outputs, js=arriving, **quiet)
        refresh.click(models.list_models, None, [picker, status], **quiet)
        status_ticker.tick(
            handlers.status,
            None,
            [*model_outputs, *card_outputs, warning, chats, usage, chatbot],
            **quiet,
        )
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
        wanted = [picker, system, *controls.values()]
        asked = gr.on(
            [message.submit, send.click],
            handlers.send,
            [message, *wanted],
            [message, chatbot, send, stop, chats, editing, snippet_panel],
            show_progress="hidden",
            concurrency_limit=None,
            trigger_mode="multiple",
            api_name="chat",
        )
        acted = acts.click(
            handlers.act,
            [*wanted, comment, message],
            [message, comment, snippet, *chat_outputs],
            show_progress="hidden",
            concurrency_limit=None,
            trigger_mode="multiple",
            api_visibility="private",
        )
        acted.then(None, None, None, js=SHOW_SNIPPET)
        charts = UsageOverTime(keeper.history, of_chat, of_all, totals, handlers.session)
        chart_outputs = [totals, *of_chat.all, *of_all.all]
        drawing = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
        over_time.expand(charts.open, None, chart_outputs, **drawing)
        over_time.collapse(charts.close, None, None, **quiet)
        for ended in (asked, acted):
            after = ended.then(handlers.after_turn, None, [usage, context, chats, *model_outputs], **quiet)
            after.then(charts.refresh, None, chart_outputs, **drawing)
        stop.click(handlers.stop, None, None, **quiet)
        emptied = new_chat.click(handlers.new_chat, comment, [message, *chat_outputs], **quiet)
        emptied.then(None, None, None, js=SHUT_DRAWERS)
        search.change(handlers.search, search, chats, trigger_mode="always_last", **quiet)
        # Who asks on has said what there was to say of the answer before.
        said = [comment.submit, comment_keep.click, message.submit, send.click]
        gr.on(said, handlers.comment, comment, comment_group, **quiet)
        sharing = ExportController(page, catalogue, keeper, handlers.chats, handlers.session)
        for button, export in (
            (as_markdown, sharing.as_markdown),
            (as_json, sharing.as_json),
            (everything, sharing.all),
        ):
            button.click(export, None, download, show_progress="minimal", api_visibility="private")
        imported = upload.upload(
            sharing.read, upload, [upload, download, *chat_outputs], show_progress="minimal", api_visibility="private"
        )
        replaying = ReplayController(page, catalogue, keeper.history, handlers.asking, handlers.chats, handlers.session)
        replayed = replay.click(
            replaying.replay,
            picker,
            [replay_view, replay_html, replay_note, replay_stop, chats],
            trigger_mode="multiple",
            **drawing,
        )
        replay_stop.click(replaying.stop, None, None, **quiet)
        replay_back.click(replaying.back, None, replay_view, **quiet)
        for changed in (emptied, imported, replayed):
            changed.then(charts.refresh, None, chart_outputs, **drawing)
        managing = ManageHandlers(manage.page, settings, catalogue, handlers.session, models.shown_model)
        wire_manage(manage, managing, [picker, status, *card_outputs])
        blocks.unload(handlers.leave)
    return blocks
