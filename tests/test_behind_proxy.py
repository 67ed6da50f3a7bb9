"""The app behind a proxy that serves HTTPS and strips a path prefix: all URLs lead back through the proxy."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest

from phi3_ui import server
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from phi3_ui.ui.asset_urls import STATIC_URL
from phi3_ui.uvicorn_server import create_config
from tests.support.asgi_client import Client, run_app
from tests.support.logins import hash_logins
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, Provider, serve_provider

PUBLIC = "https://chat.example/llm"
# The proxy keeps the Host header or moves it to X-Forwarded-Host, and adds the client's address.
KEPT = {"Host": "chat.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.5"}
CHANGED = {**KEPT, "Host": "app.internal:7860", "X-Forwarded-Host": "chat.example"}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with serve_provider() as provider:
        provider.redirects.add(f"{PUBLIC}/login/callback")
        yield provider


@pytest.fixture(scope="module")
def client(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    settings = Settings.read(
        {
            "PHI3_UI_HOME": str(tmp_path_factory.mktemp("home")),
            "PHI3_UI_LOGINS": hash_logins(anna="one"),
            "OAUTH_CLIENT_ID": CLIENT_ID,
            "OAUTH_CLIENT_SECRET": CLIENT_SECRET,
            "OPENID_PROVIDER_URL": provider.url,
            "GRADIO_ROOT_PATH": "/llm",
        }
    )

    def wrap_app(app: Any) -> Any:
        config = create_config(app, settings.trusted_proxies)
        config.load()
        return config.loaded_app

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FirstRun, "start", lambda self: None)
        with run_app(server.create_app, settings, wrap=wrap_app) as client:
            yield client


@pytest.fixture(autouse=True)
def _forget_cookies(client: Client) -> None:
    client.http.cookies.clear()


def _log_in(client: Client, headers: dict[str, str]) -> str:
    """Log in, store the cookie in the client as a browser behind the proxy would, and return the Set-Cookie header."""
    data = {"username": "anna", "password": "one"}
    origin = {"Origin": "https://chat.example"}
    response = client.send("POST", "/login", data=data, headers={**headers, **origin})
    assert response.status_code == 200
    line = response.headers["set-cookie"]
    name, _, rest = line.partition("=")
    client.http.cookies.clear()
    client.http.cookies.set(name, rest.partition(";")[0])
    return line


def _addresses(html: str, base: str) -> set[str]:
    """Return the URLs that a document at `base` loads."""
    return {urljoin(base, found) for found in re.findall(r'(?:src|href)="([^"#]+)"', html)}


@pytest.mark.parametrize("headers", [KEPT, CHANGED], ids=["host kept", "host changed"])
def test_logging_in_using_the_page_and_logging_out(client: Client, headers: dict[str, str]) -> None:
    def get(path: str) -> Any:
        return client.send("GET", path, headers=headers)

    login = get("/").text
    assert f"{PUBLIC}/{STATIC_URL}/login.js" in _addresses(login, f"{PUBLIC}/")
    assert all(address.startswith(f"{PUBLIC}/") for address in _addresses(login, f"{PUBLIC}/"))

    cookie = _log_in(client, headers)
    assert "; Path=/llm;" in cookie
    assert "; Secure" in cookie
    assert "; HttpOnly" in cookie

    page = get("/").text
    assert "gradio-app" in page
    addresses = _addresses(page, f"{PUBLIC}/")
    assert len(addresses) > 3
    for address in addresses:
        assert address.startswith(f"{PUBLIC}/"), address
        if not address.endswith("manifest.json"):  # which only a Space has
            assert get(address.removeprefix(PUBLIC)).status_code == 200, address
    config = get("/config").json()
    assert config["root"] == PUBLIC
    assert config["username"] == "anna"

    logout = client.send("POST", "/logout", headers={**headers, "Origin": "https://chat.example"})
    assert logout.status_code == 303
    assert urljoin(f"{PUBLIC}/logout", logout.headers["location"]) == f"{PUBLIC}/"
    assert "; Path=/llm;" in logout.headers["set-cookie"], "otherwise the browser keeps the cookie"
    assert get("/config").status_code == 401


@pytest.mark.parametrize("headers", [KEPT, CHANGED], ids=["host kept", "host changed"])
def test_signing_in_with_hugging_face(client: Client, provider: Provider, headers: dict[str, str]) -> None:
    login = client.send("GET", "/login/huggingface", headers=headers)
    query = parse_qs(urlsplit(login.headers["location"]).query)
    assert query["redirect_uri"] == [f"{PUBLIC}/login/callback"]
    name, _, rest = login.headers["set-cookie"].partition("=")
    assert "; Path=/llm;" in rest
    assert "; Secure" in rest
    client.http.cookies.clear()
    client.http.cookies.set(name, rest.partition(";")[0])

    callback = provider.authorize(login.headers["location"])
    response = client.send("GET", callback.removeprefix(PUBLIC), headers=headers)

    assert urljoin(callback, response.headers["location"]) == f"{PUBLIC}/"
    assert all("; Path=/llm;" in line and "; Secure" in line for line in response.headers.get_list("set-cookie"))


def test_forwarded_headers_of_an_untrusted_client_are_ignored(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = client.http._transport
    monkeypatch.setattr(transport, "client", ("203.0.113.66", 1))

    assert "; Secure" not in _log_in(client, KEPT), "the connection is plain HTTP"
    for origin in ("https://evil.example", "null", "https://chat.example.evil.example"):
        assert client.send("POST", "/logout", headers={**KEPT, "Origin": origin}).status_code == 403


def test_a_session_cookie_of_another_app_on_the_host_is_rejected(client: Client) -> None:
    name = _log_in(client, KEPT).partition("=")[0]
    client.http.cookies.clear()
    client.http.cookies.set(name, "x" * 43)

    assert client.send("GET", "/config", headers=KEPT).status_code == 401
