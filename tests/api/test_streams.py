"""The API over a real connection: streams, callers that disconnect, concurrent requests."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from phi3_ui.testing import Reply, ScriptedModel, log_scripted_model
from tests.support.app_server import Server, serve, wait_until
from tests.support.build_cache import create_store
from tests.support.trust import approve_models

if TYPE_CHECKING:  # a second of CPU time, in each process that collects the tests
    import openai

pytestmark = pytest.mark.server

STREAMS = 50


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streams")


@pytest.fixture(scope="module")
def scripted(home: Path) -> ScriptedModel:
    uri = create_store(home)
    model = log_scripted_model(uri, home, "scripted")
    approve_models(uri, home)
    return model


@pytest.fixture(scope="module")
def app(home: Path, scripted: ScriptedModel) -> Iterator[Server]:
    with serve(home, home / "app.log", variables={"PHI3_UI_MAX_ANSWERS": str(STREAMS)}) as server:
        yield server
        assert "Traceback" not in server.log.read_text(encoding="utf-8")


@pytest.fixture
def model(scripted: ScriptedModel) -> ScriptedModel:
    scripted.reset()
    return scripted


@pytest.fixture
def client(app: Server) -> Iterator["openai.OpenAI"]:
    import openai

    with openai.OpenAI(base_url=f"{app.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def count_running(app: Server) -> int:
    lines = httpx.get(f"{app.url}/metrics").text.splitlines()
    return int(float(next(line for line in lines if line.startswith("phi3_answers_running ")).split()[1]))


def test_openais_client_chats_streams_and_lists(client: "openai.OpenAI", model: ScriptedModel) -> None:
    import openai

    assert [listed.id for listed in client.models.list()] == ["scripted", model.model_id]
    gate = model.create_gate()
    model.enqueue(Reply("One ", gate, "two."))
    stream = client.chat.completions.create(
        model="scripted",
        messages=[{"role": "user", "content": "Count."}],
        stream=True,
        stream_options={"include_usage": True},
    )
    texts, usage = [], None
    for chunk in stream:
        usage = chunk.usage or usage
        texts += [choice.delta.content or "" for choice in chunk.choices]
        if "".join(texts).strip() == "One":
            gate.open()  # the text before the gate has arrived

    assert "".join(texts) == "One two."
    assert usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "Hi"}])
    assert refused.value.code == "model_not_found"
    model.enqueue(Reply("Half ", error="out of memory"))
    with pytest.raises(openai.APIError, match="out of memory"):
        list(
            client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "Hi"}], stream=True)
        )


@pytest.mark.parametrize("stream", [False, True])
def test_a_disconnected_caller_stops_the_computation(app: Server, model: ScriptedModel, stream: bool) -> None:
    gate = model.create_gate()
    model.enqueue(Reply("Once ", gate, "upon a time.", endless=True))
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Tell."}], "stream": stream}
    with httpx.Client() as http, ThreadPoolExecutor() as threads:
        request = http.build_request("POST", f"{app.url}/v1/chat/completions", json=body)
        sent = threads.submit(http.send, request, stream=True)
        gate.wait_until_reached()
        assert count_running(app) == 1
        if stream:
            sent.result().close()
        else:
            http.close()
            with pytest.raises((httpx.HTTPError, RuntimeError)):
                sent.result()
    wait_until(lambda: count_running(app) == 0)
    assert not gate.path.exists(), "the answer ended at the gate"


def test_fifty_concurrent_streams_are_each_complete(client: "openai.OpenAI", model: ScriptedModel, app: Server) -> None:
    model.enqueue(*(Reply(f"Answer {number}.", question=f"Question {number}?") for number in range(STREAMS)))
    gate = threading.Barrier(STREAMS)

    def ask(number: int) -> str:
        gate.wait()
        stream = client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": f"Question {number}?"}], stream=True
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    with ThreadPoolExecutor(STREAMS) as threads:
        assert list(threads.map(ask, range(STREAMS))) == [f"Answer {number}." for number in range(STREAMS)]
    assert count_running(app) == 0
