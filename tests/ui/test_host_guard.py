"""Requests that other sites send through a browser are refused: under their own host name (DNS rebinding), and from their pages."""

import socket
from collections.abc import Mapping

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from phi3_ui.errors import UserError
from phi3_ui.settings import Settings
from phi3_ui.ui.host_guard import HostGuard
from tests.support.logins import hash_logins

EVERYWHERE = {"GRADIO_SERVER_NAME": "0.0.0.0"}
SPACE = {"SPACE_ID": "ann/chat", "SPACE_HOST": "ann-chat.hf.space,chat.example"}


def ask(
    host: str | None,
    settings: Mapping[str, str] | None = None,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """Return the response to a request, which is "done" if it reaches the app."""
    guard = HostGuard(PlainTextResponse("done"), Settings.read(settings or {}))

    async def exchange() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://app") as client:
            request = client.build_request(method, "/gradio_api/queue/join", headers=headers)
            del request.headers["host"]
            if host is not None:
                request.headers["host"] = host
            return await client.send(request)

    with start_blocking_portal() as portal:  # a separate event loop: Playwright's may run in this thread
        return portal.call(exchange)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:7860",
        "LOCALHOST.",
        "chat.localhost:1",
        "127.0.0.1:7860",
        "127.0.0.2",
        "[::1]",
        "[::1]:80",
        None,
    ],
)
@pytest.mark.parametrize("listens", ["127.0.0.1", "localhost", "::1", "[::1]", "0.0.0.0"])
def test_the_names_of_this_machine_are_accepted(host: str | None, listens: str) -> None:
    assert ask(host, {"GRADIO_SERVER_NAME": listens}).text == "done"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:7999",
        "localhost.evil.example",
        "evillocalhost",
        "localhost@evil.example",
        "evil.example:7860:80",
        "127.0.0.1.evil.example",
        "127.0.0.1, evil.example",
        "[evil.example]",
        "::1",
        "",
        ".",
        "*",
        "xn--lcalhost-n4a",
    ],
)
@pytest.mark.parametrize("settings", [{}, EVERYWHERE, {"PHI3_UI_HOSTS": "chat.example"}])
def test_other_names_are_refused(host: str, settings: dict[str, str]) -> None:
    response = ask(host, settings)

    assert response.status_code == 421
    assert "PHI3_UI_HOSTS" in response.text
    assert response.headers["content-type"].startswith("text/plain")


def test_a_page_whose_name_resolves_to_this_machine_cannot_call_events() -> None:
    site = {"Origin": "http://evil.example:7999", "Sec-Fetch-Site": "same-origin"}
    for forged in ({}, {"X-Forwarded-Host": "localhost"}, {"Forwarded": "host=localhost"}):
        assert ask("evil.example:7999", None, "POST", {**site, **forged}).status_code == 421


def test_the_forwarded_host_must_be_allowed_too() -> None:
    forwarded = {"X-Forwarded-Host": "chat.example, app.internal"}

    assert ask("127.0.0.1:7860", headers=forwarded).status_code == 421
    assert ask("127.0.0.1:7860", {"PHI3_UI_HOSTS": "chat.example"}, headers=forwarded).text == "done"


def test_other_addresses_are_accepted_only_by_apps_that_listen_on_them() -> None:
    for host in ("192.0.2.7:7860", "[2001:db8::1]"):
        assert ask(host).status_code == 421
        assert ask(host, EVERYWHERE).text == "done"


def test_an_app_reachable_by_others_accepts_its_machines_name_and_the_name_it_listens_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Anna-PC.lan")

    for host in ("anna-pc.lan", "anna-pc.local"):
        assert ask(host, EVERYWHERE).text == "done"
        assert ask(host).status_code == 421
    assert ask("chat.internal", {"GRADIO_SERVER_NAME": "chat.internal"}).text == "done"


def test_names_come_from_the_settings() -> None:
    hosts = {"PHI3_UI_HOSTS": "Chat.example:8080, other.example"}

    assert Settings.read(hosts).hosts == ("chat.example", "other.example")
    assert ask("chat.example", hosts).text == "done"
    assert ask("evil.example", {"PHI3_UI_HOSTS": "*"}).text == "done"
    assert ask("chat.example", {"GRADIO_ROOT_PATH": "https://chat.example/llm"}).text == "done"
    with pytest.raises(UserError, match=r"PHI3_UI_HOSTS cannot be https://chat\.example"):
        Settings.read({"PHI3_UI_HOSTS": "https://chat.example"})


def test_a_login_or_a_space_needs_no_names_unless_some_are_set() -> None:
    for settings in (SPACE, {"PHI3_UI_LOGINS": hash_logins(anna="one")}):
        assert ask("any.example", settings).text == "done"
        assert ask("any.example", {"PHI3_UI_HOSTS": "chat.example", **settings}).status_code == 421
    assert ask("ann-chat.hf.space", {"PHI3_UI_HOSTS": "other.example", **SPACE}).text == "done"


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({}, False),  # a program
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:7860"}, False),
        ({"Origin": "http://localhost:7860"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"}, True),
        ({"Origin": "http://localhost:3000"}, True),
        ({"Origin": "null"}, True),
    ],
)
@pytest.mark.parametrize("settings", [{}, SPACE, {"PHI3_UI_LOGINS": hash_logins(anna="one")}])
def test_a_post_of_another_sites_page_is_refused(
    headers: dict[str, str], is_refused: bool, settings: dict[str, str]
) -> None:
    assert ask("localhost:7860", settings, "POST", headers).status_code == (403 if is_refused else 200)
    assert ask("localhost:7860", settings, headers=headers).text == "done", "a link is allowed"


def test_a_refusal_is_in_the_language_of_the_request() -> None:
    assert "reporniți-o" in ask("evil.example", headers={"Accept-Language": "ro"}).text


@pytest.mark.parametrize(("host", "reaches"), [("localhost", True), ("evil.example", False)])
def test_websockets_are_guarded_and_the_lifespan_is_not(host: str, reaches: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["type"])

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    reached, sent = list[str](), list[Message]()
    guard = HostGuard(app, Settings.read({}))
    with start_blocking_portal() as portal:
        portal.call(guard, {"type": "websocket", "headers": [(b"host", host.encode())]}, receive, send)
        portal.call(guard, {"type": "lifespan"}, receive, send)

    assert reached == (["websocket"] if reaches else []) + ["lifespan"]
    assert sent == ([] if reaches else [{"type": "websocket.close"}])


def test_two_hosts_in_one_request_are_both_checked() -> None:
    sent = list[Message]()

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"host", b"evil.example")]
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers}
    with start_blocking_portal() as portal:
        portal.call(HostGuard(PlainTextResponse("done"), Settings.read({})), scope, receive, send)

    assert sent[0]["status"] == 421
