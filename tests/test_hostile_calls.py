"""Calls that no page makes: each open route with arbitrary values answers without an error of the server, and names no folder of it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi3_ui import server
from phi3_ui.errors import UserError
from phi3_ui.paths import ROOT
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from tests.store.registry.prompt_models import DECLARED, log_prompt_model
from tests.support.asgi_client import Client, running
from tests.support.build_cache import create_store

# Gradio shows a notice only to the callers of queue/join; for others it warns, which pytest makes an error.
# Threads of the app use Python's random numbers while Hypothesis, which has its own, makes values.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::hypothesis.errors.HypothesisDeprecationWarning")

_ODD = ["../../etc/passwd", "/etc/passwd", "\0", "%00", "é", "a" * 300, "<script>", "models:/x", "m-1", "-1", "NaN", ""]
_texts = st.sampled_from(_ODD) | st.text(max_size=20)
_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3), max_leaves=6
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose models are in all kinds of bad order: damaged, without files, of code that waits for an approval."""
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
    """An app that others reach, so that its visitors are not its administrator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FirstRun, "start", lambda self: None)
        settings = Settings.read({"PHI3_UI_HOME": str(home), "GRADIO_SERVER_NAME": "0.0.0.0"})
        with running(server.create_app, settings) as client:
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


@given(st.data())
def test_a_call_with_arbitrary_values(
    client: Client, home: Path, events: list[dict[str, Any]], data: st.DataObject
) -> None:
    event = data.draw(st.sampled_from(events))
    count = len(event["inputs"])
    body = {
        "fn_index": data.draw(st.just(event["id"]) | _values),
        "session_hash": data.draw(st.sampled_from(["one", "two"]) | _values),
        "data": data.draw(st.lists(_values, min_size=count, max_size=count) | _values),
        "event_data": data.draw(_values),
        **data.draw(st.dictionaries(st.sampled_from(["trigger_id", "event_id", "api_name", "batched", "x"]), _values)),
    }
    route = data.draw(st.sampled_from(["run/predict", "run/predict", "queue/join", "cancel"]))

    expect_no_harm(client.send("POST", f"/gradio_api/{route}", json=body), home)


_PLACES = [
    *("/gradio_api/file=", "/gradio_api/queue/data?session_hash="),
    *("/gradio_api/info?all_endpoints=", "/gradio_api/startup-events?", "/assets/", "/static/", "/svelte/", "/phi3/"),
    *("/phi3/static/", "/config?", "/pwa_icon/", "/theme.css?", "/?login="),
]


@given(st.sampled_from(["GET", "HEAD"]), st.sampled_from(_PLACES), st.lists(_texts, max_size=3), st.booleans())
def test_a_request_for_an_arbitrary_path(
    client: Client, home: Path, method: str, place: str, parts: list[str], is_quoted: bool
) -> None:
    rest = "/".join(parts)
    path = place + quote(rest, safe="" if is_quoted else "/")

    expect_no_harm(client.send(method, path), home)


def test_no_event_with_a_bad_model_names_a_folder_of_the_server(
    client: Client, home: Path, events: list[dict[str, Any]]
) -> None:
    models = [one.model_id for one in client.app.state.services.catalogue.list_models()]
    for number, model in enumerate([*models, "m-unknown"]):
        for event in events:
            if event["backend_fn"]:
                for data in ([model] * len(event["inputs"]), [None] * len(event["inputs"])):
                    body = {"fn_index": event["id"], "session_hash": f"page{number}", "data": data}
                    expect_no_harm(client.send("POST", "/gradio_api/run/predict", json=body), home)


def test_a_store_that_fails_is_named_without_its_folder(
    client: Client, home: Path, events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise UserError("store_unreachable", uri=f"sqlite:///{home}/mlflow.db", detail=f"{home}/mlflow.db is gone")

    catalogue = client.app.state.services.catalogue
    for name in ("list_models", "list_versions", "load_card"):
        monkeypatch.setattr(catalogue, name, fail)
    said = ""
    for event in events:
        body = {"fn_index": event["id"], "session_hash": "page", "data": ["m-1"] * len(event["inputs"])}
        response = client.send("POST", "/gradio_api/run/predict", json=body)
        expect_no_harm(response, home)
        said += response.text

    assert "The tracking store sqlite:///…/mlflow.db does not answer" in said
