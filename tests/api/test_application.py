"""The API over a real store and a scripted model in its own process."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient

from models.registry import register
from phi3_ui import server
from phi3_ui.accounts.api_keys import create_key
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.provision.jobs import JobState
from phi3_ui.settings import Settings
from phi3_ui.testing import Reply, ScriptedModel, log_scripted_model
from tests.support.app_server import wait_until
from tests.support.asgi_client import Client, run_app
from tests.support.build_cache import create_store
from tests.support.logins import hash_logins
from tests.support.trust import approve_models

ANNA, SECRET = create_key("anna")
BOB, BOBS_SECRET = create_key("bob")
ASKED = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def model(home: Path) -> ScriptedModel:
    uri = create_store(home)
    logged = log_scripted_model(uri, home, "scripted")
    register(uri, logged.model_id, "teller")
    MlflowClient(uri).set_registered_model_alias("teller", "champion", "1")
    approve_models(uri, home)
    return logged


@pytest.fixture(scope="module")
def client(home: Path, model: ScriptedModel) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FirstRun, "start", lambda self: None)
        keys = hash_logins(anna=SECRET, bob=BOBS_SECRET)
        settings = Settings.read(
            {"PHI3_UI_HOME": str(home), "PHI3_UI_API_KEYS": keys, "PHI3_UI_MAX_MESSAGE_CHARACTERS": "1000"}
        )
        with run_app(server.create_app, settings) as client:
            yield client


@pytest.fixture(autouse=True)
def _without_replies(model: ScriptedModel) -> None:
    model.reset()


def send(client: Client, path: str, body: object, key: str = ANNA, **headers: str) -> httpx.Response:
    return client.send("POST", f"/v1/{path}", json=body, headers={"Authorization": f"Bearer {key}", **headers})


def read_events(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return dict(body["error"])


@pytest.mark.parametrize("name", ["teller", "teller@champion", "teller/1", "scripted", "id"])
def test_each_name_of_a_model_is_listed_and_answers(client: Client, model: ScriptedModel, name: str) -> None:
    name = model.model_id if name == "id" else name
    headers = {"Authorization": f"Bearer {ANNA}"}

    listed = client.send("GET", "/v1/models", headers=headers).json()["data"]
    assert {"id": name, "root": model.model_id}.items() <= next(
        entry for entry in listed if entry["id"] == name
    ).items()
    assert client.send("GET", f"/v1/models/{name}", headers=headers).json()["id"] == name

    model.enqueue(Reply("Hello there.", usage=(7, 3)))
    response = send(client, "chat/completions", {"model": name, **ASKED})
    body = response.json()
    assert response.status_code == 200
    assert body["model"] == name
    assert body["system_fingerprint"] == model.model_id
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Hello there.",
        "refusal": None,
        "annotations": [],
    }
    assert body["choices"][0]["finish_reason"] == "stop"
    assert {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}.items() <= body["usage"].items()


def test_a_stream_contains_the_answer_and_ends_with_its_usage(client: Client, model: ScriptedModel) -> None:
    model.enqueue(Reply("One two three.", usage=(7, 4)))
    options = {"stream": True, "stream_options": {"include_usage": True}}
    response = send(client, "chat/completions", {"model": "teller", **ASKED, **options})

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.endswith("data: [DONE]\n\n")
    *chunks, last = read_events(response)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "One two three."
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == [None, "stop"]
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 11)
    assert len({chunk["id"] for chunk in (*chunks, last)}) == 1


def test_messages_and_parameters_reach_the_model(client: Client, model: ScriptedModel) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "One, "}, {"type": "text", "text": "two?"}]},
    ]
    sampling = {"temperature": 0.5, "top_p": 0.9, "seed": 3, "max_completion_tokens": 50}
    assert send(client, "chat/completions", {"model": "teller", "messages": messages, **sampling}).status_code == 200

    request = model.requests[-1]
    assert request.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One, two?"},
    ]
    assert {"temperature": 0.5, "top_p": 0.9, "seed": 3, "max_tokens": 50}.items() <= request.params.items()


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"n": 2}, "n"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x" * 1001}]}, "messages"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"seed": -1}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"logprobs": True}, "logprobs"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"model": ""}, "model"),
        ({"invented": 1}, "invented"),
    ],
    ids=str,
)
def test_the_error_names_an_unusable_field(client: Client, change: dict[str, Any], param: str) -> None:
    response = send(client, "chat/completions", {"model": "teller", **ASKED, **change})

    assert response.status_code == 400
    assert error_of(response)["param"] == param
    assert error_of(response)["type"] == "invalid_request_error"


def test_a_raw_prompt_reaches_only_models_that_accept_one(
    client: Client, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.enqueue(Reply("Yes.", usage=(5, 2)))
    fields = {"model": "teller", "prompt": json.dumps([{"role": "user", "content": "Really?"}])}
    body = send(client, "completions", fields).json()
    assert (body["object"], body["choices"][0]["text"]) == ("text_completion", "Yes.")
    assert model.requests[-1].messages == [{"role": "user", "content": "Really?"}]

    catalogue = client.app.state.services.catalogue
    entry = catalogue.find(model.model_id)
    monkeypatch.setattr(catalogue, "find", lambda _name: replace(entry, contract="chat"))
    refused = send(client, "completions", fields)
    assert (refused.status_code, error_of(refused)["code"]) == (400, "unsupported_model")


def test_every_refusal_has_openais_format(client: Client) -> None:
    refused = [
        (send(client, "chat/completions", {"model": "nobody", **ASKED}), 404, "model_not_found"),
        (send(client, "chat/completions", {"model": "teller", **ASKED, "stop": "x"}), 400, "unsupported_parameter"),
        (send(client, "nowhere", {}), 404, "unknown_url"),
        (send(client, "chat/completions/", {}), 404, "unknown_url"),
        (send(client, "x" * 300, {}), 404, "unknown_url"),
        (client.send("GET", "/v1"), 404, "unknown_url"),
        *((client.send(verb, "/v1/models"), 405, "unknown_url") for verb in ("PUT", "PATCH", "DELETE", "OPTIONS")),
        (client.send("GET", "/v1/models", headers={"Host": "evil.example"}), 421, "host_refused"),
        (client.send("GET", "/v1/models"), 401, "missing_api_key"),
        (client.send("GET", "/metrics"), 401, "missing_api_key"),
        (send(client, "chat/completions", ASKED, key="anna.wrong"), 401, "invalid_api_key"),
        (send(client, "chat/completions", ASKED, key=f"bob.{SECRET}"), 401, "invalid_api_key"),
    ]
    for response, status, code in refused:
        assert (response.status_code, error_of(response)["code"]) == (status, code)


def test_an_unsupported_method_is_answered_with_the_allowed_one(client: Client) -> None:
    headers = {"Authorization": f"Bearer {ANNA}"}
    assert client.send("GET", "/v1/chat/completions", headers=headers).headers["Allow"] == "POST"
    assert client.send("PUT", "/v1/models", headers=headers).headers["Allow"] == "GET"
    assert client.send("HEAD", "/v1/models", headers=headers).status_code == 200
    assert client.send("HEAD", "/health").status_code == client.get("/health").status_code


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        (b"{", "application/json", "invalid_json"),
        (b'{"a": "\xff"}', "application/json", "invalid_json"),
        (b'{"a": ' + b"[" * 50_000, "application/json", "invalid_json"),
        (b'{"a": ' + b"1" * 5000 + b"}", "application/json", "invalid_json"),
        (b"[]", "application/json", None),
        (b"3", "application/json", None),
        (b"{}", "text/plain", "invalid_content_type"),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_a_body_that_is_not_a_json_object_is_refused(
    client: Client, content: bytes, kind: str, code: str | None
) -> None:
    headers = {"Authorization": f"Bearer {ANNA}", "Content-Type": kind}
    response = client.send("POST", "/v1/chat/completions", content=content, headers=headers)

    assert (response.status_code, error_of(response)["code"]) == (400, code)


@pytest.mark.parametrize("stream", [False, True])
def test_lone_surrogates_are_replaced(client: Client, model: ScriptedModel, stream: bool) -> None:
    body = json.dumps(
        {
            "model": "teller",
            "input": "a\ud800",
            "instructions": "b\udc00",
            "metadata": {"c\ud800": "\udfff"},
            "stream": stream,
        }
    )
    headers = {"Authorization": f"Bearer {ANNA}", "Content-Type": "application/json"}
    response = client.send("POST", "/v1/responses", content=body, headers=headers)

    assert response.status_code == 200
    assert [message["content"] for message in model.requests[-1].messages] == ["b\ufffd", "a\ufffd"]
    completed = read_events(response)[-1]["response"] if stream else response.json()
    assert completed["metadata"] == {"c\ufffd": "\ufffd"}
    unknown = client.send("POST", "/v1/responses", content=b'{"\\ud800": 1}', headers=headers)
    assert unknown.status_code == 400


@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_answer_is_an_error(client: Client, model: ScriptedModel, stream: bool) -> None:
    model.enqueue(Reply("", error="out of memory"), Reply("Half ", error="out of memory"))
    first = send(client, "chat/completions", {"model": "teller", **ASKED, "stream": stream})
    assert first.status_code == 500
    assert "out of memory" in error_of(first)["message"]

    second = send(client, "chat/completions", {"model": "teller", **ASKED, "stream": stream})
    if stream:
        *_, text, last = read_events(second)
        assert text["choices"][0]["delta"]["content"].strip() == "Half"
        assert "out of memory" in last["error"]["message"]
    else:
        assert second.status_code == 500


def test_a_conversation_becomes_one_chat_of_the_keys_owner(client: Client, model: ScriptedModel) -> None:
    history = client.app.state.services.conversations.history
    earlier_ids = {chat.id for chat in history.list_conversations("anna")}
    model.enqueue(Reply("A hole."), Reply("A bird."), Reply("Not recorded."))
    messages = [{"role": "system", "content": "Riddles."}, {"role": "user", "content": "What is dark?"}]
    first = send(client, "chat/completions", {"model": "teller", "messages": messages}).json()
    follow_up = [*messages, first["choices"][0]["message"], {"role": "user", "content": "And what sings?"}]
    send(
        client,
        "chat/completions",
        {"model": "teller", "messages": [{key: message[key] for key in ("role", "content")} for message in follow_up]},
    )
    send(client, "chat/completions", {"model": "teller", **ASKED}, **{"X-Phi3-Trace": "off"})
    send(client, "chat/completions", {"model": "teller", **ASKED, "store": False})

    (chat,) = [chat for chat in history.list_conversations("anna") if chat.id not in earlier_ids]
    assert chat.title == "What is dark?"
    wait_until(lambda: len(history.load("anna", chat.id).turns) == 2)
    turns = history.load("anna", chat.id).turns
    assert [(turn.question, turn.answer and turn.answer.text) for turn in turns] == [
        ("What is dark?", "A hole."),
        ("And what sings?", "A bird."),
    ]
    assert turns[0].request
    assert turns[0].request.system == "Riddles."
    assert not history.list_conversations("bob")


DEFAULTS = {
    **dict.fromkeys(("error", "max_tool_calls", "prompt_cache_key", "reasoning", "safety_identifier")),
    **{"background": False, "service_tier": "default", "temperature": 1.0, "top_logprobs": 0, "top_p": 1.0},
    **{"presence_penalty": 0.0, "frequency_penalty": 0.0},
}
"""Fields that programs expect in every response."""


def test_a_response_continues_the_previous_one(client: Client, model: ScriptedModel) -> None:
    model.enqueue(Reply("Four."), Reply("Eight."))
    first = send(client, "responses", {"model": "teller", "input": "Two and two?", "instructions": "Count."}).json()
    assert first["status"] == "completed"
    assert first["output"][0]["content"][0]["text"] == "Four."
    assert first["completed_at"] >= first["created_at"]
    assert {name: first[name] for name in DEFAULTS} == DEFAULTS
    follow_up = {"model": "teller", "input": "Twice that?", "previous_response_id": first["id"], "stream": True}
    events = read_events(send(client, "responses", follow_up))

    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta") == "Eight."
    assert events[-1]["type"] == "response.completed"
    assert events[0]["response"]["completed_at"] is None
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "Eight."
    assert [message["content"] for message in model.requests[-1].messages] == ["Two and two?", "Four.", "Twice that?"]
    refused = send(client, "responses", {**follow_up, "previous_response_id": first["id"]}, key=BOB)
    assert (refused.status_code, error_of(refused)["param"]) == (400, "previous_response_id")


def test_metrics_count_answers_and_tokens(client: Client, model: ScriptedModel) -> None:
    def read_metrics() -> dict[str, float]:
        text = client.send("GET", "/metrics", headers={"Authorization": f"Bearer {ANNA}"}).text
        return {
            name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        }

    before = read_metrics()
    model.enqueue(Reply("Hello.", usage=(70, 3)))
    send(client, "chat/completions", {"model": "teller", **ASKED})
    increases = {name: value - before.get(name, 0) for name, value in read_metrics().items()}

    assert increases['phi3_answers_total{model="scripted",outcome="stop"}'] == 1
    assert increases['phi3_tokens_total{kind="prompt",model="scripted"}'] == 70
    assert increases['phi3_tokens_total{kind="completion",model="scripted"}'] == 3
    assert read_metrics()["phi3_models_loaded"] == 1


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (JobState(phase="running"), 503),
        (JobState(phase="failed"), 503),
        (JobState(phase="running", is_usable=True), 200),
        (JobState(phase="done"), 200),
    ],
    ids=lambda value: getattr(value, "phase", value),
)
def test_the_app_is_healthy_once_a_model_can_answer(
    client: Client, monkeypatch: pytest.MonkeyPatch, state: JobState, status: int
) -> None:
    monkeypatch.setattr(client.app.state.services.first_run, "state", state)
    assert client.get("/health").status_code == status
