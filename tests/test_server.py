"""The application factory: routes, lifespan, mounting, and two applications in one process."""

import phi3_ui.ui.quick_gradio  # noqa: F401, I001  (before any other import of Gradio)

import itertools
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from gradio.blocks import Blocks
from gradio.routes import App as GradioApp
from starlette.routing import Mount

from phi3_ui import __version__, server
from phi3_ui.errors import UserError
from phi3_ui.host.pool import Pool
from phi3_ui.paths import ROOT
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.testing import log_scripted_model
from phi3_ui.ui.asset_urls import STATIC_URL
from phi3_ui.ui.open_pages import OpenPages
from tests.support.asgi_client import Client, run_app
from tests.support.build_cache import create_store
from tests.support.env import environment
from tests.support.logins import hash_logins


CACHED_FOREVER = "public, max-age=31536000, immutable"


def settings_for(home: Path, **variables: str) -> Settings:
    return Settings.read({"PHI3_UI_HOME": str(home), **variables})


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lifespan's calls to its services, in order. The setup does not run."""
    events: list[str] = []
    monkeypatch.setattr(FirstRun, "start", lambda self: events.append("set up"))
    for owner, method in ((OpenPages, "stop_all"), (Pool, "close"), (Recorder, "close")):
        monkeypatch.setattr(owner, method, _record_calls(events, f"{owner.__name__}.{method}", getattr(owner, method)))
    return events


def _record_calls(events: list[str], event: str, method: Callable[..., None]) -> Callable[..., None]:
    def call(*arguments: object) -> None:
        events.append(event)
        method(*arguments)

    return call


@pytest.fixture
def client(events: list[str], tmp_path: Path) -> Iterator[Client]:
    with run_app(server.create_app, settings_for(tmp_path)) as client:
        yield client


def test_health_is_json_and_every_response_has_the_security_headers(client: Client) -> None:
    health = client.get("/health")

    assert (health.status_code, health.json()) == (503, {"status": "loading", "version": __version__})
    for response in (health, client.get("/"), client.get("/nothing")):
        assert response.headers["content-security-policy"].startswith("default-src 'self';")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"


def test_only_the_scripts_of_the_page_are_allowed(client: Client) -> None:
    nonces = set()
    for response in (client.get("/"), client.get("/")):
        [scripts] = re.findall(r"script-src ([^;]+);", response.headers["content-security-policy"])
        [nonce] = re.findall(r"'nonce-([\w-]{20,})'", scripts)
        assert "unsafe-inline" not in scripts
        assert re.findall(r"<script[^>]*>", response.text)
        assert all(f'nonce="{nonce}"' in tag for tag in re.findall(r"<script[^>]*>", response.text))
        nonces.add(nonce)
    assert len(nonces) == 2


def test_the_page_is_compressed_and_hashed_assets_are_cached_forever(client: Client) -> None:
    page = client.get("/")
    assert page.headers["content-encoding"] == "gzip"
    asset = re.search(r"assets/[\w-]+\.js", page.text)
    assert asset
    assert client.get(f"/{asset[0]}").headers["cache-control"] == CACHED_FOREVER
    current = client.get(f"/{STATIC_URL}/chat/view.js")
    assert (current.headers["cache-control"], current.headers["content-encoding"]) == (CACHED_FOREVER, "gzip")
    older = client.get("/phi3/0123456789abcdef/static/chat/view.js")
    assert (older.headers["cache-control"], older.content) == ("no-store", current.content)
    for missing in ("/assets/nothing.js", f"/{STATIC_URL}/nothing.js"):
        assert "immutable" not in client.get(missing).headers.get("cache-control", "")


def _mounted_blocks(client: Client) -> Blocks:
    mounted = [route.app for route in client.app.routes if isinstance(route, Mount)]
    [page] = [app for app in mounted if isinstance(app, GradioApp)]
    assert page.blocks
    return page.blocks


def test_the_features_affected_by_cve_2026_134825_are_disabled(client: Client) -> None:
    blocks = _mounted_blocks(client)

    assert blocks.ssr_mode is False
    assert blocks.run_history is False
    assert client.get("/gradio_api/runs").status_code == 404


def test_gradio_options_of_the_page(client: Client) -> None:
    blocks = _mounted_blocks(client)
    config = client.get("/config").json()

    assert config["analytics_enabled"] is False
    assert config["footer_links"] == []
    assert config["show_error"] is False
    assert blocks.api_open is True
    assert blocks.limiter.total_tokens == 100  # type: ignore[attr-defined]  # Gradio declares it as None
    assert client.get("/monitoring").status_code == 404


def test_routes_that_the_page_does_not_use_are_closed(client: Client) -> None:
    for method, paths in {
        "GET": [
            "/openapi.json",
            "/gradio_api/openapi.json",
            "/docs",
            "/monitoring/summary",
            "/monitoring/x",
            "/gradio_api/heartbeat/abc",
            "/gradio_api/token",
            "/gradio_api/user",
            "/gradio_api/vibe-code",
            "/gradio_api/deep_link",
            "/gradio_api/proxy=http://127.0.0.1",
            "/gradio_api/file//etc/passwd",
            "/gradio_api/stream/a/b/1/playlist.m3u8",
            "/gradio_api/dev/reload",
            "/gradio_api/custom_component/a/client/component/x",
            "/logout",
            "/logout/",
            "/phi3/../settings.py",
            "/%2e%2e/config",
        ],
        "POST": [
            "/gradio_api/upload",
            "/gradio_api/vibe-edit/",
            "/gradio_api/vibe-code",
            "/gradio_api/component_server",
            "/gradio_api/run/chat",
            "/gradio_api/api/chat",
            "/gradio_api/call/chat",
            "/gradio_api/reset",
            "/gradio_api/process_recording",
            "/login",
            "/logout",
        ],
        "PUT": [
            "/",
        ],
        "DELETE": [
            "/config",
        ],
        "OPTIONS": [
            "/gradio_api/upload",
        ],
    }.items():
        for path in paths:
            assert client.send(method, path).status_code == 404, path


def test_invalid_requests_cause_no_server_error(client: Client) -> None:
    join, run, unknown = "/gradio_api/queue/join", "/gradio_api/run/predict", {"session_hash": "a", "data": []}
    indices: list[Any] = [-1, 10**6, "x", None, [1], 1e308]
    names: list[Any] = ["/nothing", "../x", 5, {}]
    bodies: list[Any] = [
        *({**unknown, "fn_index": index} for index in indices),
        *({**unknown, "api_name": name} for name in names),
        *([], {}, None, "x", {"fn_index": 0, "session_hash": ["a"], "data": "x"}),
    ]
    for path, body in itertools.product((join, run), bodies):
        assert 400 <= client.send("POST", path, json=body).status_code < 500, (path, body)
    assert 400 <= client.send("POST", join, content=b"{" * 1000).status_code < 500
    for path in (
        "queue/data?session_hash=nobody",
        "queue/data",
        "file=/etc/passwd",
        "file=a/b",
        "file=%00",
        "upload_progress?upload_id=x",
    ):
        assert 400 <= client.get(f"/gradio_api/{path}").status_code < 500, path
    cancels: list[Any] = [{"session_hash": "a", "fn_index": 1, "event_id": "x"}, {}, []]
    for body in cancels:
        assert client.send("POST", "/gradio_api/cancel", json=body).status_code < 500


def test_an_imported_chat_is_private_to_its_user(events: list[str], tmp_path: Path) -> None:
    """A guessed or stolen tab, another login, a path or a hash gives no access. An oversized file is rejected."""
    create_store(tmp_path)
    chat = {"title": "Mine", "messages": [{"role": "user", "content": "secret"}]}
    logins = hash_logins(anna="one", bob="two")
    settings = settings_for(tmp_path, PHI3_UI_LOGINS=logins, PHI3_UI_MAX_IMPORT_MB="1")
    with run_app(server.create_app, settings) as client:
        services, tab = client.app.state.services, "0" * 32
        anna, bob = (services.pages.get(name, "en", name) for name in ("anna", "bob"))
        services.pages.claim_tab("anna", "anna", tab, "browser")

        def send(**options: Any) -> httpx.Response:
            return client.send("POST", "/import", headers={"X-Phi3-Tab": tab}, **{"json": chat, **options})

        assert send().status_code == 403, "without a login"
        assert client.log_in("bob", "two") == 200
        assert send().status_code == 403, "bob with anna's tab"
        client.http.cookies.clear()
        assert client.log_in("anna", "one") == 200
        rejected = send(json="x" * 1_000_001)
        assert (rejected.status_code, "1 MB" in rejected.json()["detail"]) == (413, True)
        accepted = send()
        assert (accepted.status_code, accepted.json()) == (202, {})
        assert services.imports.find(anna.user_id).wait(60)

        history = services.conversations.history
        assert [one.title for one in history.list_conversations(anna.user_id)] == ["Mine"]
        assert history.list_conversations(bob.user_id) == []
        assert services.imports.find(bob.user_id) is None
        # No file exists at a reachable path.
        names = {file.relative_to(tmp_path).parts[0] for file in tmp_path.rglob("*")}
        assert names <= {
            "mlflow.db",
            "artifacts",
            "journal",
            "logs",
            "catalogue",
            "loaded",
            "mlflow.db-journal",
            "mlflow.db-wal",
            "mlflow.db-shm",
        }
        for method, path in (("POST", "/gradio_api/upload"), ("GET", f"/gradio_api/file={tmp_path}/mlflow.db")):
            assert client.send(method, path).status_code in (403, 404)


def test_responses_with_data_are_not_cached(client: Client) -> None:
    for path in ("/", "/config", "/gradio_api/info", "/health"):
        assert client.get(path).headers["cache-control"] == "no-store"


def test_dns_rebinding_is_rejected(client: Client) -> None:
    site = {"Host": "evil.example:7860", "Origin": "http://evil.example:7860", "Sec-Fetch-Site": "same-origin"}
    for method, path in (("GET", "/"), ("GET", "/config"), ("POST", "/gradio_api/queue/join"), ("POST", "/import")):
        response = client.send(method, path, headers=site)
        assert response.status_code == 421
        assert "content-security-policy" in response.headers


def test_the_lifespan_starts_the_setup_and_shuts_down_in_order(events: list[str], tmp_path: Path) -> None:
    with run_app(server.create_app, settings_for(tmp_path)):
        assert events == ["set up"]

    assert events == ["set up", "OpenPages.stop_all", "Pool.close", "Recorder.close"]


def test_a_mounted_app_runs_its_lifespan_inside_the_outer_one(events: list[str], tmp_path: Path) -> None:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, bool]]:
        events.append("outer start")
        yield {"outer": True}
        events.append("outer end")

    def create() -> FastAPI:
        outer = FastAPI(lifespan=lifespan)
        mounted.append(server.mount_app(outer, "/chat", settings_for(tmp_path)))
        return outer

    mounted: list[FastAPI] = []
    with run_app(create) as client:
        assert events == ["outer start", "set up"]
        assert client.get("/health").status_code == 404
        assert client.get("/chat/health").json()["status"] == "loading"
        assert client.get("/chat/theme.css").status_code == 200
        pages = mounted[0].state.services.pages
        session = pages.get("page", "en")
        pages.claim_tab("page", None, "a" * 32, "")
        assert client.post("/chat/tab/close", tab="b" * 32) == 204
        assert not session.is_closed()
        assert client.post("/chat/tab/close", tab="a" * 32) == 204
        assert session.is_closed()
        assert client.get("/chat/config").json()["root"] == "http://localhost/chat"

    assert events[2:] == ["OpenPages.stop_all", "Pool.close", "Recorder.close", "outer end"]


def test_two_apps_in_one_process_have_their_own_stores(tmp_path: Path) -> None:
    created = {}
    for name in ("first", "second"):
        home = tmp_path / name
        home.mkdir()
        settings = settings_for(home)
        assert settings.tracking_uri == create_store(home)
        log_scripted_model(settings.tracking_uri, home, name=name)
        created[name] = settings

    with run_app(server.create_app, created["first"]) as first, run_app(server.create_app, created["second"]) as second:
        for _ in range(2):  # the second time after the other app has used MLflow
            for name, client in (("first", first), ("second", second)):
                catalogue = client.app.state.services.catalogue
                (entry,) = catalogue.list_models()
                assert entry.name == name
                assert catalogue.load_card(entry.model_id).title == "Scripted model"


def test_a_port_in_use_is_refused_and_the_first_free_port_is_the_default(tmp_path: Path) -> None:
    with server._listen(settings_for(tmp_path)) as first, server._listen(settings_for(tmp_path)) as second:
        port = first.getsockname()[1]
        assert 7860 <= port < second.getsockname()[1]
        with pytest.raises(UserError, match=f"Port {port} of 127.0.0.1 is in use"):
            server._listen(settings_for(tmp_path, GRADIO_SERVER_PORT=str(port)))


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:1"), ("0.0.0.0", "http://localhost:1"), ("::1", "http://[::1]:1")],
)
def test_the_announced_url_can_be_opened(host: str, url: str) -> None:
    assert server._url(host, 1) == url


@pytest.mark.server
def test_a_second_signal_does_not_interrupt_the_shutdown(tmp_path: Path) -> None:
    with server._listen(settings_for(tmp_path)) as probe:
        port = probe.getsockname()[1]
    log_scripted_model(create_store(tmp_path), tmp_path)
    env = environment(tmp_path, PHI3_UI_OPEN_BROWSER="0", GRADIO_SERVER_PORT=str(port))
    with subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not _is_healthy(port):
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)

    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def _is_healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").is_success
    except httpx.HTTPError:
        return False
