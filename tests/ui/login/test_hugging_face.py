"""Signing in with Hugging Face, and attacks on it, with a fake provider."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from phi3_ui.settings import Settings
from phi3_ui.ui.front_page import FrontPage
from phi3_ui.ui.login.login import Login
from phi3_ui.ui.route_guard import RouteGuard
from phi3_ui.ui.security import SecurityHeaders
from tests.support.asgi_client import Client, run_app
from tests.support.logins import hash_logins
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, Provider, encode, serve_provider

SITE = "http://localhost"
CALLBACK = f"{SITE}/login/callback"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serve_provider() as provider:
        provider.redirects.add(CALLBACK)
        yield provider


def create_app(home: Path, provider: Provider, **more: str) -> FastAPI:
    """The login in front of a page that names the user."""
    oauth = {"OAUTH_CLIENT_ID": CLIENT_ID, "OAUTH_CLIENT_SECRET": CLIENT_SECRET, "OPENID_PROVIDER_URL": provider.url}
    login = Login(Settings.read({"PHI3_UI_HOME": str(home), **oauth, **more}))
    guards = [
        Middleware(SecurityHeaders),
        Middleware(RouteGuard, login_routes=login.routes),
        Middleware(FrontPage, login=login),
    ]

    def show(request: Request) -> Response:
        return JSONResponse({"user": login.find_user(request)})

    app = FastAPI(middleware=guards)
    login.add_routes(app)
    app.add_route("/", show)
    return app


@pytest.fixture
def client(tmp_path: Path, provider: Provider) -> Iterator[Client]:
    with run_app(create_app, tmp_path, provider) as client:
        yield client


def begin(client: Client) -> str:
    """Return the URL of the provider to which the browser is redirected."""
    response = client.get("/login/huggingface")
    assert response.status_code == 303
    return response.headers["location"]


def problem_of(response: httpx.Response) -> str:
    """Return the problem that the login page shows after a refusal, which starts no session."""
    assert response.status_code == 303
    target = response.headers["location"]
    assert target.startswith("../?login=")
    assert not any(
        "phi3-session" in line and "-attempt=" not in line for line in response.headers.get_list("set-cookie")
    )
    return target.partition("=")[2]


def test_a_consenting_user_is_logged_in_under_a_name_that_no_account_can_have(
    client: Client, provider: Provider
) -> None:
    page = client.get("/")
    assert 'href="login/huggingface"' in page.text
    assert "password" not in page.text
    assert client.log_in("anna", "x") == 404

    callback = client.get(provider.authorize(begin(client)))

    assert (callback.status_code, callback.headers["location"]) == (303, "../")
    session = next(line for line in callback.headers.get_list("set-cookie") if "-attempt" not in line)
    assert "HttpOnly" in session
    assert "SameSite=lax" in session
    assert client.get("/").json() == {"user": f"hf:anna:{provider.subject}"}
    assert not any(name.endswith("-attempt") for name in client.http.cookies), "the attempt is over"
    assert client.get("/login/huggingface").headers["location"] == "../", "another site's link does not change the user"

    assert client.send("POST", "/logout", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.send("GET", "/logout").status_code == 404
    assert client.send("POST", "/logout", headers={"Origin": SITE}).status_code == 303
    assert "login/huggingface" in client.get("/").text


def test_both_login_methods_work_on_one_page(tmp_path: Path, provider: Provider) -> None:
    with run_app(lambda: create_app(tmp_path, provider, PHI3_UI_LOGINS=hash_logins(anna="one"))) as client:
        page = client.get("/").text
        assert 'href="login/huggingface"' in page
        assert 'type="password"' in page
        client.get(provider.authorize(begin(client)))
        assert client.get("/").json() == {"user": f"hf:anna:{provider.subject}"}
        client.send("POST", "/logout", headers={"Origin": SITE})
        assert client.log_in("anna", "one") == 200
        assert client.get("/").json() == {"user": "anna"}


def test_a_space_uses_the_redirect_uri_that_it_registers(tmp_path: Path, provider: Provider) -> None:
    provider.redirects = {"https://anna-chat.hf.space/login/callback"}
    space = {"SPACE_ID": "anna/chat", "SPACE_HOST": "anna-chat.hf.space,chat.example"}
    with run_app(lambda: create_app(tmp_path, provider, **space)) as client:
        response = client.send("GET", "/login/huggingface", headers={"Host": "evil.example"})
        provider.authorize(response.headers["location"])
        assert "SameSite=none" in response.headers["set-cookie"], "the Space is shown in a frame"


def test_a_code_is_not_accepted_twice_nor_by_another_browser(client: Client, provider: Provider) -> None:
    url = provider.authorize(begin(client))
    cookies = dict(client.http.cookies)
    assert client.get(url).headers["location"] == "../"

    client.http.cookies.clear()
    assert problem_of(client.get(url)) == "expired", "without the cookie of the browser that began the login"
    client.http.cookies.update(cookies)
    assert problem_of(client.get(url)) == "expired", "with that cookie: the provider redeems a code only once"

    client.http.cookies.clear()
    victims_url, victims_cookies = begin(client), dict(client.http.cookies)
    client.http.cookies.clear()
    attackers_url = provider.authorize(begin(client))
    client.http.cookies.clear()
    client.http.cookies.update(victims_cookies)
    assert problem_of(client.get(attackers_url)) == "expired", "an attacker's code in a victim's browser"
    assert "login/huggingface" in client.get("/").text
    assert victims_url


@pytest.mark.parametrize("state", ["", "x", "é", "&state=x", "\0"])
def test_a_wrong_state_is_refused_before_the_provider_is_asked(client: Client, provider: Provider, state: str) -> None:
    url = provider.authorize(begin(client))
    request_count = len(provider.requests)

    response = client.get(f"{url.partition('state=')[0]}state={httpx.QueryParams({'': state})}")

    assert problem_of(response) == "expired"
    assert len(provider.requests) == request_count


@pytest.mark.parametrize("cookie", ["", "x", "e30.Zm9v.YmFy", "." * 3000])
def test_a_forged_attempt_is_refused(client: Client, provider: Provider, cookie: str) -> None:
    url = provider.authorize(begin(client))
    [name] = [name for name in client.http.cookies if name.endswith("-attempt")]
    client.http.cookies.clear()
    client.http.cookies.set(name, cookie)

    assert problem_of(client.get(url)) == "expired"


_FALSE_CLAIMS: dict[str, list[Any]] = {
    "iss": ["https://evil.example", None, "", ["x"]],
    "aud": ["another-app", None, [CLIENT_ID, "another-app"], [], 1],
    "nonce": ["another", None, "", 1],
    "exp": [1, None, "x"],
    "iat": [10**11, None],
    "sub": [None, "", "../x", "a b", 5],
    "preferred_username": [None, "", "an:na", "anna\n", "a" * 200, "<b>", {"a": 1}, "änna"],
}
_FORGERIES: dict[str, dict[str, Any]] = {
    "signed by another": {"sign_with": "evil"},
    "signed with the public key": {"algorithm": "HS256"},
    "another algorithm": {"algorithm": "RS512"},
    "no algorithm": {"id_token": f"{encode({'alg': 'none'})}.{encode({'iss': 'x', 'sub': '1'})}."},
    "no token": {"id_token": ""},
    "no JSON": {"id_token": "a.b.c"},
    **{f"{name} = {value!r}": {"claims": {name: value}} for name, values in _FALSE_CLAIMS.items() for value in values},
}


@pytest.mark.parametrize("forgery", _FORGERIES.values(), ids=_FORGERIES.keys())
def test_a_forged_response_does_not_sign_in(client: Client, provider: Provider, forgery: dict[str, Any]) -> None:
    url = provider.authorize(begin(client))
    for name, value in forgery.items():
        setattr(provider, name, value)

    assert problem_of(client.get(url)) == "invalid"
    assert "login/huggingface" in client.get("/").text


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://evil.example/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": "file:///etc/passwd"},
    ],
    ids=str,
)
def test_a_provider_with_other_addresses_is_refused(
    client: Client, provider: Provider, metadata: dict[str, str]
) -> None:
    provider.metadata = metadata

    assert problem_of(client.get("/login/huggingface")) == "invalid"


def test_no_parameter_leads_to_another_site(client: Client, provider: Provider) -> None:
    evil = "_target_url=https://evil.example&redirect_uri=https://evil.example&next=//evil.example"
    response = client.get(f"/login/huggingface?{evil}")
    callback = client.get(f"{provider.authorize(response.headers['location'])}&{evil}")

    assert "evil" not in response.headers["location"]
    assert callback.headers["location"] == "../"


def test_each_failure_has_a_message(client: Client, provider: Provider) -> None:
    denied = f"{CALLBACK}?error=access_denied&error_description=<script>&state="
    authorize_url = begin(client)
    response = client.get(denied + httpx.URL(authorize_url).params["state"])
    assert problem_of(response) == "denied"
    assert problem_of(client.get(denied)) == "expired", "another site's link"

    url = provider.authorize(begin(client))
    provider.status = 500
    assert problem_of(client.get(url)) == "unavailable"
    provider.status = 200

    sentences = set()
    for problem in ("denied", "expired", "invalid", "throttled", "unavailable"):
        for language in ("en", "ro"):
            page = client.send("GET", f"/?login={problem}", headers={"Accept-Language": language}).text
            sentences.add(page.partition('role="alert">')[2].partition("<")[0])
    assert len(sentences) == 10
    assert all(sentence.endswith(".") for sentence in sentences)
    assert "alert" not in client.get("/?login=<script>alert(1)</script>").text


def test_a_provider_that_does_not_respond_is_not_retried_immediately(client: Client, provider: Provider) -> None:
    provider.status = 500
    problems = [problem_of(client.get("/login/huggingface")) for _ in range(20)]

    assert set(problems) == {"unavailable"}
    assert len(provider.requests) == 1


def test_guessed_codes_are_limited(client: Client, provider: Provider) -> None:
    state = httpx.URL(begin(client)).params["state"]
    cookies = dict(client.http.cookies)
    request_count = len(provider.requests)
    problems = []
    for number in range(30):
        client.http.cookies.update(cookies)
        problems.append(problem_of(client.get(f"/login/callback?code={number}&state={state}")))

    assert problems == ["expired"] * 5 + ["throttled"] * 25
    assert len(provider.requests) - request_count <= 5
