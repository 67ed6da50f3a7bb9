"""Requests that no page sends: every open route handles arbitrary values without a server error or revealing a folder."""

import itertools
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import httpx
import pytest

from phi3_ui import server
from phi3_ui.errors import UserError
from phi3_ui.paths import ROOT
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from phi3_ui.ui.asset_urls import STATIC_URL
from tests.store.registry.prompt_models import DECLARED, log_prompt_model
from tests.support.asgi_client import Client, run_app
from tests.support.build_cache import create_store

# Gradio shows notices only to callers of queue/join; for others it issues a warning, which pytest turns into an error.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

_ODD = [
    "../../etc/passwd",
    "/etc/passwd",
    "\0",
    "%00",
    "é",
    "a" * 300,
    "<script>",
    "models:/x",
    "m-1",
    "-1",
    "NaN",
    "",
    *("x/" * 3000, "é" * 200),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with unusable models: damaged, without files, or with unapproved code."""
    home = tmp_path_factory.mktemp("secret-home")
    uri = create_store(home, "models")
    damaged, missing, empty, _ = (log_prompt_model(uri, name, DECLARED) for name in ("a", "b", "c", "d"))
    folder = home / "artifacts" / "models"
    (folder / damaged / "artifacts" / "MLmodel").write_text("flavors: [" * 1000)
    shutil.rmtree(folder / missing)
    for file in (folder / empty / "artifacts").iterdir():
        if file.is_file() and file.name != "MLmodel":
            file.unlink()
    return home


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[Client]:
    """An app reachable from other machines, so that its visitors are not its administrator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FirstRun, "start", lambda self: None)
        public = {"GRADIO_SERVER_NAME": "0.0.0.0", "PHI3_UI_REQUESTS_PER_MINUTE": "0"}
        settings = Settings.read({"PHI3_UI_HOME": str(home), **public})
        with run_app(server.create_app, settings) as client:
            yield client


@pytest.fixture(scope="module")
def events(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/config").json()["dependencies"]
    assert len(found) > 30
    return found


def expect_no_harm(response: httpx.Response, home: Path) -> None:
    assert response.status_code < 500, response.text
    for folder in (home, ROOT, Path(httpx.__file__).parent.parent):
        assert str(folder) not in response.text


def _make_value(rng: random.Random, depth: int = 2) -> Any:
    """Return an arbitrary JSON value. Hypothesis cannot be used because other threads change the global random state."""
    match rng.randrange(8 if depth else 6):
        case 0:
            return None
        case 1:
            return rng.choice([True, False])
        case 2:
            return rng.choice([0, -1, 1, 10**30, rng.randrange(1000)])
        case 3:
            return rng.choice([0.5, 1e308, -1e-308])
        case 6:
            return [_make_value(rng, depth - 1) for _ in range(rng.randrange(4))]
        case 7:
            return {rng.choice(_ODD): _make_value(rng, depth - 1) for _ in range(rng.randrange(4))}
        case _:
            return rng.choice(_ODD)


@pytest.mark.parametrize("seed", range(4))
def test_a_call_with_arbitrary_values(client: Client, home: Path, events: list[dict[str, Any]], seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(150):
        event = rng.choice(events)
        values = [_make_value(rng) for _ in event["inputs"]]
        body = {
            "fn_index": rng.choice([event["id"], event["id"], event["id"], _make_value(rng)]),
            "session_hash": rng.choice(["one", "two", _make_value(rng)]),
            "data": rng.choice([values, values, values, _make_value(rng)]),
            "event_data": _make_value(rng),
            rng.choice(["trigger_id", "event_id", "api_name", "batched", "x"]): _make_value(rng),
        }
        route = rng.choice(["run/predict", "run/predict", "queue/join", "cancel"])
        expect_no_harm(client.send("POST", f"/gradio_api/{route}", json=body), home)


@pytest.mark.parametrize("route", ["queue/join", "run/predict", "cancel"])
def test_a_call_with_an_invalid_session_hash_is_rejected(
    client: Client, events: list[dict[str, Any]], route: str
) -> None:
    queued = next(event for event in events if event["backend_fn"] and event["queue"] is not False)
    body = {"fn_index": queued["id"], "event_id": "", "data": [None] * len(queued["inputs"])}
    for key in ("", "a" * 9_500_000, None):
        assert client.send("POST", f"/gradio_api/{route}", json={**body, "session_hash": key}).status_code == 400


_URL_PREFIXES = [
    *("/gradio_api/file=", "/gradio_api/queue/data?session_hash=nobody-"),
    *("/gradio_api/info?all_endpoints=", "/gradio_api/startup-events?", "/assets/", "/static/", "/svelte/", "/phi3/"),
    *(f"/{STATIC_URL}/", "/phi3/older/vendor/", "/config?", "/pwa_icon/", "/theme.css?", "/?login="),
]


def test_a_request_for_an_arbitrary_path(client: Client, home: Path) -> None:
    for prefix, text in itertools.product(_URL_PREFIXES, _ODD):
        for rest in (quote(text, safe=""), quote(text), f"{quote(text)}/{quote(text, safe='')}"):
            expect_no_harm(client.get(prefix + rest), home)
            expect_no_harm(client.send("HEAD", prefix + rest), home)


def test_no_event_with_a_bad_model_reveals_a_server_folder(
    client: Client, home: Path, events: list[dict[str, Any]]
) -> None:
    models = [one.model_id for one in client.app.state.services.catalogue.list_models()]
    for number, model in enumerate([*models, "m-unknown"]):
        for event in events:
            if event["backend_fn"]:
                for data in ([model] * len(event["inputs"]), [None] * len(event["inputs"])):
                    body = {"fn_index": event["id"], "session_hash": f"page{number}", "data": data}
                    expect_no_harm(client.send("POST", "/gradio_api/run/predict", json=body), home)


def test_a_failing_store_is_named_without_its_folder(
    client: Client, home: Path, events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise UserError("store_unreachable", uri=f"sqlite:///{home}/mlflow.db", detail=f"{home}/mlflow.db is gone")

    catalogue = client.app.state.services.catalogue
    for name in ("list_models", "list_versions", "load_card"):
        monkeypatch.setattr(catalogue, name, fail)
    text = ""
    for event in events:
        body = {"fn_index": event["id"], "session_hash": "page", "data": ["m-1"] * len(event["inputs"])}
        response = client.send("POST", "/gradio_api/run/predict", json=body)
        expect_no_harm(response, home)
        text += response.text

    assert "The tracking store sqlite:///…/mlflow.db does not answer" in text


@pytest.mark.parametrize("seed", range(2))
def test_an_api_request_with_arbitrary_values(client: Client, home: Path, seed: int) -> None:
    rng = random.Random(seed)
    fields = [
        "model",
        "messages",
        "prompt",
        "input",
        "stream",
        "temperature",
        "max_tokens",
        "stop",
        "seed",
        "n",
        "tools",
    ]
    for _ in range(150):
        route = rng.choice(["chat/completions", "completions", "responses", "models", "nowhere"])
        body: dict[str, Any] = {name: _make_value(rng) for name in rng.sample(fields, rng.randrange(8))}
        body["messages"] = rng.choice([[{"role": "user", "content": _make_value(rng)}], _make_value(rng)])
        headers = {"Authorization": rng.choice(["Bearer x", "Basic x", ""])}
        response = client.send("POST", f"/v1/{route}", json=body, headers=headers)
        expect_no_harm(response, home)
        assert response.status_code == 200 or set(response.json()) == {"error"}
