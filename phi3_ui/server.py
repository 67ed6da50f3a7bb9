"""Serve the page: one FastAPI app with our headers, no telemetry, no saved runs, no share link."""

import socket

import gradio as gr
from starlette.middleware import Middleware

from phi3_ui.errors import UserError
from phi3_ui.host.pool import Pool
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from phi3_ui.store.conversations.turn_writer import ConversationStore
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.ui.page.layout import build_ui
from phi3_ui.ui.page.texts import I18N
from phi3_ui.ui.page.theme import CSS, theme
from phi3_ui.ui.page.usage_plots import PLOT_CSS
from phi3_ui.ui.render.mlflow_links import MlflowLinks
from phi3_ui.ui.render.replay import REPLAY_CSS
from phi3_ui.ui.security import SecurityHeaders
from phi3_ui.ui.services import Services
from phi3_ui.ui.sessions import Sessions

_THREADS = 100  # each answer that streams holds one while it waits for its next words


def launch(
    settings: Settings,
    catalogue: Catalogue,
    pool: Pool,
    setup: FirstRun,
    keeper: ConversationStore,
    sessions: Sessions,
    mlflow: MlflowLinks,
    block: bool = True,
) -> gr.Blocks:
    """Serve until the process is told to end (or, without `block`, until `close()`). UserError: port_taken."""
    if settings.server_port and not _free(settings.server_name, settings.server_port):
        raise UserError("port_taken", port=settings.server_port, host=settings.server_name)
    blocks = build_ui(Services(settings, catalogue, pool, setup, keeper, sessions, mlflow))
    blocks.queue(api_open=True)
    blocks.launch(
        server_name=settings.server_name,
        server_port=settings.server_port,
        inbrowser=settings.open_browser,
        prevent_thread_lock=not block,
        theme=theme(),
        css=CSS + PLOT_CSS + REPLAY_CSS,
        i18n=I18N,
        max_threads=_THREADS,
        share=False,
        auth=list(settings.logins) or None,
        run_history=False,
        ssr_mode=False,
        footer_links=[],
        enable_monitoring=False,
        app_kwargs={"middleware": [Middleware(SecurityHeaders)]},
    )
    return blocks


def _free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
