"""Remote servers as a source of models."""

import gzip
import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from phi3_ui.chat.types import CancelToken, ChatRequest, Completed, Message
from phi3_ui.errors import UserError
from phi3_ui.host.remote.server_reports import ServerReports
from phi3_ui.i18n.translate import tr_finding
from phi3_ui.remote_servers import RemoteServer, create_remote_server
from phi3_ui.settings import Settings
from phi3_ui.sources.remote_source import RemoteSource
from phi3_ui.store.registry.cards import LoggedRequest
from tests.support.stand_in_api import StandInApi, Stream, error_response
from tests.ui.handlers.doubles import ENTRY

LAB = '[lab]\nurl = "https://lab.example/v1"\nkey = "sk-1"\n'


@pytest.fixture
def api() -> StandInApi:
    return StandInApi()


class Source(RemoteSource):
    """A RemoteSource that is closed at the end of the test."""

    def __init__(self, api: StandInApi, home: Path, servers: str = LAB) -> None:
        settings = Settings.read({"PHI3_UI_HOME": str(home), "PHI3_UI_REMOTE_SERVERS": servers})
        super().__init__(settings, api.open_loop())


@pytest.fixture
def source(api: StandInApi, tmp_path: Path) -> Iterator[Source]:
    source = Source(api, tmp_path)
    yield source
    source.close()


def test_models_are_those_that_the_server_lists_with_what_it_says_of_them(api: StandInApi, source: Source) -> None:
    api.is_models_list_held = True
    assert source.list_models() == [], "nobody waits for the server"
    assert source.get_state(source.find("remote:lab/a/b")).phase == "closed"
    api.models = [
        {"id": "a/b", "max_model_len": 4096, "created": 1_700_000_000},
        {"id": "c", "meta": {"n_ctx_train": 8192}},
        {"id": "d", "context_length": 2048, "supported_parameters": ["seed", "tools"]},
    ]
    api.is_models_list_held = False
    source._reports.fetch(source.servers[0])

    first, second, third = source.list_models()
    assert (first.model_id, first.name, first.host) == ("remote:lab/a/b", "lab/a/b", "lab.example")
    assert (first.context_length, second.context_length, third.context_length) == (4096, 8192, 2048)
    assert first.created.year == 2023
    assert third.supported_params == ("seed",)
    assert first.is_elsewhere
    assert source.find("remote:lab/a/b") == first
    assert source.get_state(first).phase == "ready"
    assert source.list_ready() == [one.model_id for one in (first, second, third)]
    assert [one.code for one in source.diagnose(first).findings] == ["remote_reachable"]
    assert source.count_tokens(first, [], None) is None


def test_a_model_is_asked(api: StandInApi, source: Source) -> None:
    model = source.open(source.find("remote:lab/m"))
    *_, completed = model.answer(ChatRequest((Message("user", "Hi"),)), CancelToken())

    assert isinstance(completed, Completed)
    assert completed.text == "Hello there."
    assert api.requests[-1].headers["authorization"] == "Bearer sk-1"
    assert source.open(source.find("remote:lab/m")) is model


def test_only_the_models_of_the_settings_are_found(api: StandInApi, tmp_path: Path) -> None:
    source = Source(api, tmp_path, LAB + 'models = ["a"]\ncontext_length = 99\nparams = ["seed"]\n')
    try:
        [entry] = source.list_models()
        assert (entry.name, entry.context_length, entry.supported_params) == ("lab/a", 99, ("seed",))
        for name in ("remote:lab/b", "remote:other/a", "remote:lab", "remote:"):
            with pytest.raises(UserError) as caught:
                source.find(name)
            assert caught.value.code == "remote_gone"
        api.models = [{"id": "b"}]
        source.query_all()
        assert [one.code for one in source.diagnose(entry).findings] == ["remote_no_model"]
    finally:
        source.close()


def test_a_server_that_cannot_be_asked_says_why_and_hides_no_other(api: StandInApi, tmp_path: Path) -> None:
    other = '[other]\nurl = "http://127.0.0.1:9/v1"\nmodels = ["x"]\n'
    source = Source(api, tmp_path, LAB + other)
    try:
        answer = api._handle

        async def handle(request: httpx.Request) -> httpx.Response:
            return error_response(401, "no") if request.url.host == "lab.example" else await answer(request)

        api._handle = handle  # type: ignore[method-assign]
        source._loop.close()
        source._reports._loop = source._loop = api.open_loop()
        [error] = source.query_all()
        assert error.code == "remote_key_refused"
        [entry] = source.list_models()
        assert (entry.name, entry.is_elsewhere) == ("other/x", False)
        state = source.get_state(source.find("remote:lab/m"))
        assert (state.phase, state.error) == ("failed", error)
        assert [(server.name, why) for server, why in source.list_failures()] == [("lab", error)]
        [finding] = source.diagnose(source.find("remote:lab/m")).findings
        assert finding.severity == "error"
        assert tr_finding("en", finding.code, finding.values) == str(error)
        assert "lab" in tr_finding("ro", finding.code, finding.values)
    finally:
        source.close()


def test_a_server_is_added_kept_with_its_key_unreadable_for_others_and_forgotten(
    api: StandInApi, tmp_path: Path
) -> None:
    source = Source(api, tmp_path)
    added = create_remote_server(name="new", url="http://localhost:1234/v1", key="sk-2")
    try:
        assert source.add(added) == 1
        with pytest.raises(UserError, match="already"):
            source.add(added)
        api.models = []
        assert source.is_added(source.find("remote:new/m"))
        assert not source.is_added(source.find("remote:lab/m"))
    finally:
        source.close()
    file = tmp_path / "remote_servers.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text(encoding="utf-8"))[0]["key"] == "sk-2"

    again = Source(api, tmp_path)
    try:
        assert again.servers[-1].read_key() == "sk-2"
        again.remove("lab")
        again.remove("new")
        assert [server.name for server in again.servers] == ["lab"], "that of the settings stays"
        assert "sk-2" not in file.read_text(encoding="utf-8")
    finally:
        again.close()


def test_a_server_that_cannot_be_asked_is_not_added(api: StandInApi, source: Source, tmp_path: Path) -> None:
    api.models = [{"no": "id"}]
    with pytest.raises(UserError) as caught:
        source.add(create_remote_server(name="new", url="http://localhost:1234/v1"))

    assert caught.value.code == "remote_malformed"
    assert len(source.servers) == 1
    assert not (tmp_path / "remote_servers.json").exists()


def test_a_logged_model_is_answered_by_the_server_called_openai(api: StandInApi, tmp_path: Path) -> None:
    logged = replace(ENTRY, engine="openai", logged_request=LoggedRequest("gpt-4o", (Message("system", "Be brief."),)))
    bare = Source(api, tmp_path)
    source = Source(api, tmp_path, LAB.replace("lab]", "openai]"))
    try:
        assert not bare.is_usable(bare.add_server_details(logged))
        with pytest.raises(UserError, match="no key is configured"):
            bare.open(logged)
        entry = source.add_server_details(logged)
        assert (entry.host, entry.is_elsewhere, entry.model_id) == ("lab.example", True, ENTRY.model_id)
        list(source.open(entry).answer(ChatRequest((Message("user", "Hi"),)), CancelToken()))
        body: dict[str, Any] = api.bodies[-1]
        assert body["model"] == "gpt-4o"
        assert [one["content"] for one in body["messages"]] == ["Be brief.", "Hi"]
    finally:
        bare.close()
        source.close()


def _report(api: StandInApi, server: RemoteServer) -> Any:
    loop = api.open_loop()
    try:
        return ServerReports(loop).fetch(server)
    finally:
        loop.close()


def test_another_instance_lists_each_model_once_and_none_that_is_remote_there(api: StandInApi) -> None:
    api.models = [
        {"id": name, "root": root}
        for name, root in [("teller", "m-1"), ("teller@champion", "m-1"), ("m-1", "m-1"), ("b", "m-2")]
    ]
    api.models.append({"id": "remote:us/teller", "root": "remote:us/teller"})
    report = _report(api, create_remote_server(name="us", url="http://us.example/v1", kind="phi3-chat"))

    assert [model.id for model in report.models] == ["teller", "b"]


def test_models_whose_names_cannot_be_shown_are_ignored_which_is_logged_once(
    api: StandInApi, caplog: pytest.LogCaptureFixture
) -> None:
    odd = ["", "  ", "new\nline", "nul\0", "a\u202eb", "\u200b", "x" * 201]
    good = ["a b", "x/y:z@q", "ünï 👩‍🚀"]
    api.models = [{"id": name} for name in [*odd, *good]]
    server = create_remote_server(name="lab", url="https://lab.example/v1")
    loop = api.open_loop()
    try:
        reports = ServerReports(loop)
        for _ in range(2):
            report = reports.fetch(server)
            assert [model.id for model in report.models or ()] == good
    finally:
        loop.close()
    assert caplog.text.count(f"ignoring {len(odd)} models") == 1
    with pytest.raises(ValueError, match="control characters"):
        create_remote_server(name="lab", url="https://lab.example/v1", models=("a\u202eb",))


@pytest.mark.parametrize(
    ("status", "code"), [(400, "remote_malformed"), (404, "remote_malformed"), (429, "remote_rate_limited")]
)
def test_a_server_that_refuses_to_list_its_models_is_what_is_wrong(
    api: StandInApi, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    async def handle(_: httpx.Request) -> httpx.Response:
        return error_response(status, "context window")

    monkeypatch.setattr(api, "_handle", handle)
    error = _report(api, create_remote_server(name="lab", url="https://lab.example")).error

    assert error.code == code
    assert "server lab" in str(error)


def test_a_web_page_instead_of_a_list_of_models_is_named(api: StandInApi, monkeypatch: pytest.MonkeyPatch) -> None:
    async def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, html="<html>Sign in</html>")

    monkeypatch.setattr(api, "_handle", handle)
    error = _report(api, create_remote_server(name="lab", url="https://lab.example/v1")).error

    assert error.code == "remote_web_page"


def test_a_compressed_list_of_models_is_not_unpacked(api: StandInApi, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(json.dumps({"data": [{"id": "m"}]}).encode())

    async def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Stream(packed), headers={"content-encoding": "gzip"})

    monkeypatch.setattr(api, "_handle", handle)
    error = _report(api, create_remote_server(name="lab", url="https://lab.example/v1")).error

    assert error.code == "remote_malformed"


def test_databricks_lists_its_chat_endpoints(api: StandInApi, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"name": "chat", "task": "llm/v1/chat"}, {"name": "vectors", "task": "llm/v1/embeddings"}]

    async def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/2.0/serving-endpoints"
        return httpx.Response(200, json={"endpoints": rows})

    monkeypatch.setattr(api, "_handle", handle)
    server = create_remote_server(name="dbx", url="https://x.example/serving-endpoints", kind="databricks")
    report = _report(api, server)

    assert (report.error, [model.id for model in report.models]) == (None, ["chat"])
    assert server.chat_url("chat") == "https://x.example/serving-endpoints/chat/completions"


def test_reports_are_renewed_only_when_they_are_old(api: StandInApi) -> None:
    now = 0.0
    loop = api.open_loop()
    reports = ServerReports(loop, clock=lambda: now)
    server = create_remote_server(name="lab", url="https://lab.example/v1")
    try:
        reports.fetch(server)
        assert reports.get(server)
        assert len(api.requests) == 1
        now = 30.0
        reports.fetch(server)
        now = 40.0
        reports.get(server)
        assert len(api.requests) == 2
    finally:
        loop.close()


@pytest.mark.parametrize("key_file", [True, False])
def test_a_key_file_is_read_for_each_question(tmp_path: Path, key_file: bool) -> None:
    file = tmp_path / "key"
    server = create_remote_server(name="lab", url="https://lab.example/v1", key_file=file)
    if not key_file:
        with pytest.raises(UserError, match="cannot be read"):
            server.headers()
        return
    for key in ("one", "two"):
        file.write_text(f"{key}\n", encoding="ascii")
        assert server.headers() == {"Authorization": f"Bearer {key}"}
