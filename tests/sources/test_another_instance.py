"""Models of another instance of this app, which is served on a real port."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from phi3_ui import server
from phi3_ui.accounts.api_keys import create_key
from phi3_ui.chat.types import CancelToken, ChatRequest, Completed, GenerationParams, Message, TextDelta, Usage
from phi3_ui.errors import UserError
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from phi3_ui.sources.remote_source import RemoteSource
from phi3_ui.testing import Reply, ScriptedModel, log_scripted_model
from tests.support.app_server import find_free_port, wait_until
from tests.support.asgi_client import run_app
from tests.support.build_cache import create_store
from tests.support.logins import hash_logins
from tests.support.trust import approve_models

pytestmark = pytest.mark.server

TIMEOUT = 60
ANNA, KEY = create_key("anna")
REQUEST = ChatRequest((Message("user", "Hi"),), GenerationParams(max_tokens=50))


@contextmanager
def served(app: FastAPI) -> Iterator[int]:
    """Serve an application on a local port; the caller runs its lifespan."""
    port = find_free_port()
    one = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=one.run, daemon=True)
    thread.start()
    wait_until(lambda: one.started, TIMEOUT)
    yield port
    one.should_exit = True
    thread.join(TIMEOUT)


class Other:
    """The other instance, and this instance's view of it."""

    def __init__(self, home: Path, app: FastAPI, model: ScriptedModel, port: int) -> None:
        self.app, self.model = app, model
        self.pool = app.state.services.pool
        self._home, self._url = home, f"http://127.0.0.1:{port}/v1"

    @contextmanager
    def source(self, key: str = ANNA) -> Iterator[RemoteSource]:
        servers = f'other = {{url = "{self._url}", kind = "phi3-chat", key = "{key}"}}'
        source = RemoteSource(Settings.read({"PHI3_UI_HOME": str(self._home), "PHI3_UI_REMOTE_SERVERS": servers}))
        yield source
        source.close()


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Other]:
    home, here = tmp_path_factory.mktemp("other"), tmp_path_factory.mktemp("here")
    uri = create_store(home)
    model = log_scripted_model(uri, home, "teller")
    approve_models(uri, home)
    settings = Settings.read({"PHI3_UI_HOME": str(home), "PHI3_UI_API_KEYS": hash_logins(anna=KEY)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FirstRun, "start", lambda self: None)
        with run_app(server.create_app, settings) as client, served(client.app) as port:
            yield Other(here, client.app, model, port)


def test_it_lists_its_models_and_answers(other: Other) -> None:
    with other.source() as source:
        assert source.query_all() == []
        [entry] = source.list_models()
        assert (entry.name, entry.context_length, entry.is_elsewhere) == ("other/teller", 8192, False)
        assert "max_tokens" in entry.supported_params

        other.model.enqueue(Reply("One two three.", usage=(7, 4)))
        *pieces, completed = source.open(entry).answer(REQUEST, CancelToken())
        assert "".join(one.text for one in pieces if isinstance(one, TextDelta)) == "One two three."
        assert isinstance(completed, Completed)
        assert (completed.usage, completed.finish_reason) == (Usage(7, 4, 0), "stop")
        assert other.model.requests[-1].question == "Hi"


def test_stop_reaches_its_model(other: Other) -> None:
    gate = other.model.create_gate()
    other.model.enqueue(Reply("Once ", gate, "upon a time."))
    cancel = CancelToken()
    with other.source() as source:
        events = source.open(source.find("remote:other/teller")).answer(REQUEST, cancel)
        assert next(events) == TextDelta("Once ")
        gate.wait_until_reached()
        cancel.set()
        [*_, completed] = events
        assert isinstance(completed, Completed)
        assert (completed.text, completed.finish_reason) == ("Once ", "cancelled")
        wait_until(lambda: not other.pool.peek(other.model.model_id).is_busy, TIMEOUT)


def test_its_refusals_are_sentences(other: Other) -> None:
    with other.source("phi3-wrong") as source:
        [error] = source.query_all()
        assert error.code == "remote_key_refused"
    with other.source() as source:
        for name, code in (("nobody", "remote_no_model"), ("teller", "remote_failed")):
            other.model.enqueue(Reply("No", error="out of memory"))
            with pytest.raises(UserError) as caught:
                list(source.open(source.find(f"remote:other/{name}")).answer(REQUEST, CancelToken()))
            assert caught.value.code == code
