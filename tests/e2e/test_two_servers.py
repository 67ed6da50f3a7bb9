"""Tests for two servers on one store behind the documented proxies, with PostgreSQL, TLS and a path prefix that the proxy strips."""

import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from playwright.sync_api import expect

from phi3_ui.provision.jobs import exclusive
from phi3_ui.settings import Settings
from phi3_ui.store.registry.trust import inspect_model
from phi3_ui.testing import Reply, ScriptedModel, log_scripted_model
from tests.deploy.test_images import health_check
from tests.e2e.conftest import NewVisitor
from tests.support.app_server import Server, find_free_port, serve, wait_until
from tests.support.chat_page import ANSWER, ChatPage
from tests.support.logins import hash_logins
from tests.support.postgres import running_postgres
from tests.support.proxies import Proxy, running_caddy, running_nginx
from tests.support.tracking_server import Server as TrackingServer

API_KEY_HEADERS = {"Authorization": "Bearer anna.key"}


@dataclass(frozen=True)
class Deployment:
    servers: tuple[Server, Server]
    store: str
    """The tracking URI."""
    model: ScriptedModel
    nginx: Proxy

    @property
    def addresses(self) -> list[str]:
        return [server.url.removeprefix("http://") for server in self.servers]

    def count_turns(self) -> int:
        client = MlflowClient(self.store)
        experiment = client.get_experiment_by_name("phi3-chat")
        return len(client.search_traces(locations=[experiment.experiment_id], max_results=500)) if experiment else 0


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    with ExitStack() as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        tracking = TrackingServer(
            folder / "mlflow", find_free_port(), database=running.enter_context(running_postgres())
        )
        running.enter_context(tracking.running())
        model = log_scripted_model(tracking.uri, folder)
        (logged,) = (folder / "artifacts").rglob("MLmodel")
        variables = {
            "MLFLOW_TRACKING_URI": tracking.uri,
            "GRADIO_ROOT_PATH": "/llm",
            "PHI3_UI_LOGINS": hash_logins(anna="one"),
            "PHI3_UI_API_KEYS": hash_logins(anna="key"),
            "PHI3_UI_TRUSTED_MODELS": inspect_model(logged.parent).fingerprint,
        }
        servers = [
            running.enter_context(serve(folder / name, folder / f"{name}.log", variables=variables)) for name in "ab"
        ]
        urls = [server.url.removeprefix("http://") for server in servers]
        nginx = running.enter_context(running_nginx(folder / "nginx", urls))
        yield Deployment((servers[0], servers[1]), tracking.uri, model, nginx)
        for server in servers:
            assert "Traceback" not in server.unexpected_log()


@contextmanager
def _connect(proxy: Proxy, server: str = "") -> Iterator[httpx.Client]:
    """Yield an HTTP client that trusts the proxy's certificate; `server` is the value of the session-affinity cookie."""
    context = ssl.create_default_context(cafile=str(proxy.authority))
    with httpx.Client(base_url=proxy.url, verify=context, timeout=60) as client:
        if server:
            client.cookies.set("phi3_server", server)
        wait_until(lambda: _is_served(client))
        yield client


def _is_served(client: httpx.Client) -> bool:
    try:
        return client.get("health").status_code == 200
    except httpx.TransportError:
        return False


def _find_cookies(deployment: Deployment) -> list[str]:
    """Return a session-affinity cookie value for each server, in the order of the servers."""
    cookies = dict[str, str]()
    with _connect(deployment.nginx) as client:
        for number in range(100):
            value = f"server-{number}"
            client.get(f"health?{value}", headers={"Cookie": f"phi3_server={value}"})
            cookies.setdefault(deployment.nginx.upstreams("GET")[-1], value)
            if len(cookies) == 2:
                break
    return [cookies[address] for address in deployment.addresses]


def _open(deployment: Deployment, new_visitor: NewVisitor, server: str) -> ChatPage:
    context = new_visitor(ignore_https_errors=True)
    context.add_cookies([{"name": "phi3_server", "value": server, "url": deployment.nginx.url}])
    page = context.new_page()
    page.goto(deployment.nginx.url)
    page.get_by_label("User name").fill("anna")
    page.get_by_label("Password").fill("one")
    page.get_by_role("button", name="Log in").click()
    return ChatPage(page).wait_until_ready()


def test_a_user_finds_the_same_chats_on_both_servers(deployment: Deployment, new_visitor: NewVisitor) -> None:
    first, second = (_open(deployment, new_visitor, cookie) for cookie in _find_cookies(deployment))
    # nginx may log a request only after the page is ready.
    wait_until(lambda: set(deployment.addresses) <= set(deployment.nginx.upstreams("POST")))

    first.answer("Asked at the first server")
    second.chats.filter(has_text="Asked at the first server").wait_for(timeout=ANSWER)
    second.chats.first.click()
    second.wait_for_caption(1)
    second.answer("Asked at the second server")
    first.start_new_chat()
    first.chats.first.click()
    expect(first.questions).to_have_text(["Asked at the first server", "Asked at the second server"])
    assert first.chats.count() == 1
    assert deployment.count_turns() == 2

    second.list_button("Asked at the first server", "delete").click()
    first.chats.first.wait_for(state="detached", timeout=ANSWER)
    assert deployment.count_turns() == 0


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_a_proxy_streams_and_keeps_a_client_on_one_server(deployment: Deployment, name: str, tmp_path: Path) -> None:
    gate = deployment.model.create_gate()
    deployment.model.enqueue(Reply("Once upon ", gate, "a time."))
    with ExitStack() as running:
        proxy = (
            deployment.nginx
            if name == "nginx"
            else running.enter_context(running_caddy(tmp_path, deployment.addresses))
        )
        client = running.enter_context(_connect(proxy))
        cookies = {client.get("health").headers.get("set-cookie") for _ in range(3)}
        assert cookies == {None}, "the cookie is set again after the first request"
        assert client.cookies.get("phi3_server")
        assert client.get(proxy.url.removesuffix("/")).headers["location"].endswith("/llm/")
        assert client.get("config").status_code == 401
        origin = {"Origin": proxy.url.removesuffix("/llm/")}
        logged_in = client.post("login", data={"username": "anna", "password": "one"}, headers=origin)
        assert "; Secure" in logged_in.headers["set-cookie"]
        assert client.get("config").json()["root"] == proxy.url.removesuffix("/")
        assert all(client.get("config").status_code == 200 for _ in range(5)), (
            "a request went to the server without the login"
        )

        body = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "A story?"}]}
        with client.stream("POST", "v1/chat/completions", json=body, headers=API_KEY_HEADERS) as response:
            text = response.iter_text()
            assert any("upon" in part for part in text), "the answer is not streamed"
            gate.open()
            assert "[DONE]" in "".join(text)


def test_the_health_check_of_the_image_passes_only_for_a_running_server(deployment: Deployment) -> None:
    _, *arguments = health_check()
    for address, code in ((deployment.addresses[0], 0), (f"127.0.0.1:{find_free_port()}", 1)):
        command = [sys.executable, *(part.replace("127.0.0.1:7860", address) for part in arguments)]
        assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == code


def test_only_one_server_at_a_time_sets_up_the_store(deployment: Deployment, tmp_path: Path) -> None:
    barrier, active, active_counts = threading.Barrier(2), list[str](), list[int]()

    def set_up(name: str) -> None:
        settings = Settings.read({"PHI3_UI_HOME": str(tmp_path / name), "MLFLOW_TRACKING_URI": deployment.store})
        barrier.wait(60)
        with exclusive(settings, lambda: None):
            active.append(name)
            active_counts.append(len(active))
            time.sleep(0.2)  # simulates the setup
            active.remove(name)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(set_up, ("a", "b")))

    assert active_counts == [1, 1]


def test_users_of_a_failed_server_fail_over_to_the_other(deployment: Deployment, tmp_path: Path) -> None:
    cookies = _find_cookies(deployment)
    with running_caddy(tmp_path, deployment.addresses) as caddy:
        caddy_cookies = _collect_caddy_cookies(caddy)
        os.kill(deployment.servers[1].process.pid, signal.SIGKILL)
        deployment.servers[1].process.wait()

        with _connect(deployment.nginx, cookies[1]) as client:
            assert client.get("").status_code == 200
            assert deployment.nginx.upstreams("GET")[-1].endswith(deployment.addresses[0])
            _ask_over_api(client)
        for cookie in caddy_cookies:
            with _connect(caddy, cookie) as client:
                assert client.get("").status_code == 200
                _ask_over_api(client)


def _collect_caddy_cookies(caddy: Proxy) -> set[str]:
    """Return the session-affinity cookies of both servers, which Caddy derives from their addresses."""
    cookies = set[str]()
    for _ in range(100):
        with _connect(caddy) as client:
            cookies.add(client.cookies["phi3_server"])
        if len(cookies) == 2:
            break
    assert len(cookies) == 2
    return cookies


def _ask_over_api(client: httpx.Client) -> None:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Still there?"}]}
    assert client.post("v1/chat/completions", json=body, headers=API_KEY_HEADERS).status_code == 200
