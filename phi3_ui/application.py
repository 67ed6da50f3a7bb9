"""The composition root: settings → services → page → FastAPI application. Imports Gradio and MLflow."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import gradio as gr
from fastapi import Depends, FastAPI, Form, Request
from gradio.route_utils import FnIndexInferError
from gradio.state_holder import StateHolder
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount

from phi3_ui import __version__
from phi3_ui.accounts.quotas import Quotas
from phi3_ui.api.answering import Answering
from phi3_ui.api.application import mount_api
from phi3_ui.api.callers import Callers
from phi3_ui.api.metrics import Metrics
from phi3_ui.api.models import ApiModels
from phi3_ui.cli.console import SetupPrinter
from phi3_ui.evaluation.prompt_sets import PromptSets
from phi3_ui.evaluation.services import open_evaluations
from phi3_ui.host.pool import Pool
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.setting_defaults import STORE_FILE
from phi3_ui.settings import Settings
from phi3_ui.sources.all_models import AllModels
from phi3_ui.sources.remote_source import RemoteSource
from phi3_ui.sources.store_source import StoreSource
from phi3_ui.store.bucket import BucketCopy
from phi3_ui.store.conversations.open_store import open_conversation_store
from phi3_ui.store.links import MlflowUi
from phi3_ui.store.registry.admission import open_admission
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.ui.assets import CacheHashedAssets, create_assets
from phi3_ui.ui.connections import ConnectionWatch, identify_client
from phi3_ui.ui.event_queue import EventDrivenQueue
from phi3_ui.ui.front_page import FrontPage
from phi3_ui.ui.host_guard import HostGuard
from phi3_ui.ui.import_route import ImportRoute
from phi3_ui.ui.imports import Imports
from phi3_ui.ui.invalid_calls import InvalidCalls
from phi3_ui.ui.login.login import Login
from phi3_ui.ui.login.login_guard import LoginGuard
from phi3_ui.ui.open_pages import OpenPages
from phi3_ui.ui.page.layout import build_ui
from phi3_ui.ui.page.texts import I18N
from phi3_ui.ui.page.theme import CSS, build_theme
from phi3_ui.ui.page_calls import FindLogin, PageCalls
from phi3_ui.ui.render.mlflow_links import MlflowLinks
from phi3_ui.ui.request_limits import IMPORT_PATH, RequestLimits
from phi3_ui.ui.route_guard import RouteGuard
from phi3_ui.ui.security import SecurityHeaders
from phi3_ui.ui.services import Services

_MAX_THREADS = 100  # each streaming answer occupies one while it waits for its next text
_STOP_SECONDS = 3.0  # for each running answer at shutdown


def build_app(settings: Settings) -> FastAPI:
    """Build the application of `server.create_app`. Its state contains `services` and `end_streams`."""
    copy = (
        BucketCopy(settings.home / STORE_FILE, settings.bucket) if settings.bucket and settings.uses_own_store else None
    )
    if copy:
        copy.restore()
    services = open_services(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        services.first_run.start()
        services.models.remote.start_refresh()
        if copy:
            copy.start()
        try:
            yield
        finally:
            await end_streams()
            await asyncio.to_thread(services.imports.close, _STOP_SECONDS)
            await asyncio.to_thread(services.models.remote.close)
            await asyncio.to_thread(services.pool.close)
            await asyncio.to_thread(services.conversations.recorder.close)
            if copy:
                await asyncio.to_thread(copy.stop)

    async def end_streams() -> None:
        """Stop the answers and store their texts, then end the open pages' event streams."""
        stops = (services.pages.stop_all, answering.stop_all)
        await asyncio.gather(*(asyncio.to_thread(stop, _STOP_SECONDS) for stop in stops))
        blocks.is_running = False
        page.stop_event.set()

    login = Login(settings) if settings.has_login else None

    def has_events(session_hash: str, request: Request) -> bool:
        return calls.may_stream(session_hash, request)

    app = FastAPI(
        title="Phi-3 Chat on MLflow",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        middleware=[
            Middleware(GZipMiddleware, compresslevel=6),  # leaves event streams alone
            Middleware(SecurityHeaders),
            Middleware(HostGuard, settings=settings),
            Middleware(RequestLimits, settings=settings),
            Middleware(RouteGuard, login_routes=login.routes if login else ()),
            Middleware(LoginGuard, login=login),
            # Allows no other origin. Without it, Gradio's own middleware allows every origin, with cookies.
            Middleware(CORSMiddleware),
            Middleware(CacheHashedAssets),
            Middleware(ConnectionWatch, pages=services.pages, has_events=has_events),
            Middleware(FrontPage, login=login),
            Middleware(InvalidCalls),
        ],
        lifespan=lifespan,
    )
    app.state.services, app.state.end_streams = services, end_streams

    @app.head("/health")
    @app.get("/health")
    def health() -> JSONResponse:
        state = services.first_run.state
        is_ready = state.phase == "done" or state.is_usable
        status = "ok" if is_ready else "failed" if state.phase == "failed" else "loading"
        return JSONResponse({"status": status, "version": __version__}, 200 if is_ready else 503)

    @app.post("/tab/close", status_code=204)
    def close_tab(tab: Annotated[str, Form(max_length=128)], request: Request) -> None:
        """Receive the beacon of static/tab_state.js. It needs no login: only the page itself knows its tab's secret."""
        services.pages.close_tab(tab, identify_client(request))

    find_user = login.find_user if login else None
    imports = ImportRoute(services.pages, services.imports, find_user)
    app.add_route(IMPORT_PATH, imports.receive_file, methods=["POST"])
    if login:
        login.add_routes(app)
    app.mount("/phi3", create_assets())
    callers, models = Callers(settings), ApiModels(services.catalogue, services.models)
    answering = Answering(settings, models, services.models, services.conversations, services.quotas, services.metrics)
    mount_api(app, callers, models, answering, lambda: len(services.pool.list_loaded()))
    blocks = build_ui(services)
    page, calls = _mount_page(app, blocks, services, find_user)
    return app


def open_services(settings: Settings) -> Services:
    """Open the services that the page uses. Each call returns independent ones."""
    catalogue = Catalogue(settings.tracking_uri, settings.catalogue)
    conversations, locator = open_conversation_store(settings)
    admission = open_admission(settings)
    pool = Pool(
        settings.logs,
        settings.max_loaded_models,
        settings.idle_seconds,
        admission.admit,
        max_answers=settings.max_answers,
    )
    models = AllModels(StoreSource(settings, catalogue, admission, pool), RemoteSource(settings))
    return Services(
        settings=settings,
        catalogue=catalogue,
        admission=admission,
        pool=pool,
        models=models,
        first_run=FirstRun(settings, catalogue, SetupPrinter()),
        conversations=conversations,
        locator=locator,
        metrics=Metrics(),
        prompt_sets=PromptSets(locator.locate),
        evaluations=open_evaluations(settings, models, locator.locate),
        quotas=Quotas(settings),
        imports=Imports(conversations, settings.home),
        pages=OpenPages(settings.grace_seconds, hides_paths=not settings.is_single_user),
        mlflow=MlflowLinks(MlflowUi(settings.mlflow_url), lambda: locator.linked_experiment_id),
    )


def _mount_page(
    app: FastAPI, blocks: gr.Blocks, services: Services, find_login: FindLogin | None
) -> tuple[gr.routes.App, PageCalls]:
    """Mount the page at the root of `app`, and return Gradio's own application and the guard of its calls."""
    settings = services.settings
    blocks.max_threads = _MAX_THREADS  # read by `queue` and the lifespan
    blocks.queue(api_open=True)
    blocks._queue = EventDrivenQueue(blocks)
    calls = PageCalls(blocks._queue, services.pages, find_login)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=build_theme(),
        css=CSS,
        i18n=I18N,
        app_kwargs={"dependencies": [Depends(calls.check)]},
        auth_dependency=find_login,
        root_path=settings.root_path or None,
        # A forged Host header reaches the server-side renderer and the run history (CVE-2026-134825), so both are disabled.
        ssr_mode=False,
        run_history=False,
        footer_links=[],
        enable_monitoring=False,
        show_error=False,
        pwa=bool(settings.space_id),
    )
    page = next(route.app for route in app.routes if isinstance(route, Mount) and isinstance(route.app, gr.routes.App))
    page.add_exception_handler(FnIndexInferError, _not_found)
    services.pages.on_forgotten(lambda key: _drop_session(page.state_holder, blocks, calls, key))
    return page, calls


def _drop_session(holder: StateHolder, blocks: gr.Blocks, calls: PageCalls, key: str) -> None:
    """Free Gradio's state of a page: by default, it keeps the last values of all components of the last 10,000 pages."""
    with holder.lock:
        holder.session_data.pop(key, None)
        holder.time_last_used.pop(key, None)
    blocks.pending_streams.pop(key, None)
    blocks.pending_diff_streams.pop(key, None)
    calls.forget(key)


def _not_found(_: Request, __: Exception) -> Response:
    return PlainTextResponse("Not Found", status_code=404)
