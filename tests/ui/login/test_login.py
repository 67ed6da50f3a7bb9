"""Logging in to the whole app: what is open without a login, and attacks by guessing and from other sites."""

import phi3_ui.ui.quick_gradio  # noqa: F401, I001  (before any other import of Gradio)

from pathlib import Path

import pytest

from phi3_ui import server
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from tests.support.asgi_client import run_app
from tests.support.logins import hash_logins


@pytest.fixture(autouse=True)
def _no_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FirstRun, "start", lambda self: None)


def _settings(home: Path, logins: str) -> Settings:
    return Settings.read({"PHI3_UI_HOME": str(home), "PHI3_UI_LOGINS": logins})


def test_a_login_guards_the_page_but_not_health_and_the_beacon_of_a_closed_tab(tmp_path: Path) -> None:
    with run_app(server.create_app, _settings(tmp_path, hash_logins(anna="one"))) as client:
        assert client.get("/config").status_code == 401
        for route in ("cancel", "queue/join", "run/predict"):
            assert client.send("POST", f"/gradio_api/{route}", json={}).status_code == 401
        for route in ("startup-events", "app_id", "info", "queue/data?session_hash=a"):
            assert client.get(f"/gradio_api/{route}").status_code == 401
        assert client.get("/health").json()["status"] == "loading"
        assert client.post("/tab/close", tab="0" * 32) == 204
        assert client.post("/tab/close") == client.post("/tab/close", tab="0" * 129) == 422
        assert client.log_in("anna", "two") == 401
        assert client.log_in("anna", "one") == 200
        for origin in ("http://localhost:5001", "https://evil.example", "null"):
            for host in ("localhost", "chat.example"):
                answer = client.send("GET", "/config", headers={"Origin": origin, "Host": host})
                assert answer.status_code == 200
                assert not [name for name in answer.headers if name.startswith("access-control")], (
                    "other sites could read it"
                )


def test_guesses_and_other_sites_links_are_blocked(tmp_path: Path) -> None:
    logins = hash_logins(anna="one", bob="two")
    with run_app(server.create_app, _settings(tmp_path, logins)) as client:
        send = client.send
        statuses = [client.log_in("anna", f"guess {number}") for number in range(470)]
        assert (statuses.count(401), statuses.count(429)) == (5, 465)
        assert client.log_in("anna", "one") == 429, "the right guess comes too late"
        refused = send("POST", "/login", data={"username": "anna", "password": "x"}, headers={"Accept-Language": "ro"})
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert refused.json()["detail"].startswith("Prea multe încercări.")

        assert client.log_in("bob", "two") == 200
        [(name, cookie)] = client.http.cookies.items()
        assert name.startswith("phi3-session-")
        assert client.get("/config").status_code == 200
        for method, path in (
            ("GET", "/logout"),
            ("GET", "/logout?all_session=true"),
            ("HEAD", "/logout/"),
            ("POST", "/logout/"),
        ):
            assert send(method, path).status_code == 404
        for headers in ({}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
            assert send("POST", "/logout", headers=headers).status_code == 403
        assert client.get("/config").status_code == 200
        logout = send("POST", "/logout", headers={"Origin": "http://localhost"})
        assert (logout.status_code, logout.headers["location"]) == (303, "./")
        client.http.cookies.set(name, cookie)
        assert client.get("/config").status_code == 401, "the session has ended, not only the cookie"

        both_headers = {"Content-Length": "10", "Transfer-Encoding": "chunked"}  # the server would follow the second
        assert send("POST", "/login", data={"username": "anna"}, headers=both_headers).status_code == 413

        evil = {"Origin": "http://evil.example"}
        assert send("POST", "/login", data={"username": "bob", "password": "two"}, headers=evil).status_code == 403
        assert send("POST", "/login", content=b"x" * 10_000).status_code == 413
        assert send("POST", "/login", files={"username": b"bob"}).status_code in (400, 401)
        assert send("POST", "/login", content=b"\xff\x00=%zz").status_code in (400, 401)


def test_another_users_event_stream_can_be_neither_read_nor_written(tmp_path: Path) -> None:
    """Requests with the session hash of another login's page, for which Gradio itself checks no login."""
    with run_app(server.create_app, _settings(tmp_path, hash_logins(anna="one", bob="two"))) as client:
        assert client.log_in("anna", "one") == 200
        events = client.get("/config").json()["dependencies"]
        event = next(
            entry for entry in events if entry["backend_fn"] and entry["queue"] is not False and not entry["inputs"]
        )
        call = {"fn_index": event["id"], "session_hash": "annas", "data": []}
        assert client.send("POST", "/gradio_api/queue/join", json=call).status_code == 200
        annas_cookies = dict(client.http.cookies)

        client.http.cookies.clear()
        assert client.log_in("bob", "two") == 200
        for path in ("queue/join", "queue/join/", "run/predict", "run/predict/"):
            assert client.send("POST", f"/gradio_api/{path}", json=call).status_code in (404, 307)
        cancel = {"session_hash": "annas", "fn_index": event["id"], "event_id": ""}
        assert client.send("POST", "/gradio_api/cancel", json=cancel).status_code == 404
        own_call = {**call, "session_hash": "bobs"}
        assert client.send("POST", "/gradio_api/queue/join", json=own_call).status_code == 200
        for query in ("annas", "bobs&session_hash=annas", "annas&session_hash=bobs", "annas&session_hash=", ""):
            for path in ("queue/data", "queue/data/"):
                stolen = client.get(f"/gradio_api/{path}?session_hash={query}")
                assert "process_completed" not in stolen.text
                assert stolen.status_code in (307, 404)
        assert "process_completed" in client.get("/gradio_api/queue/data?session_hash=bobs").text

        client.http.cookies.clear()
        client.http.cookies.update(annas_cookies)
        assert client.send("POST", "/gradio_api/cancel", json=cancel).status_code == 200
        assert "process_completed" in client.get("/gradio_api/queue/data?session_hash=annas").text
