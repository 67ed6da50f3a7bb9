"""Remote models on the page: where questions are sent is shown beforehand, and unsupported actions are refused with the reason."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from phi3_ui.errors import UserError
from phi3_ui.remote_servers import create_remote_server
from phi3_ui.settings import Settings
from phi3_ui.sources.remote_source import RemoteSource
from phi3_ui.ui.handlers.compare_meter import CompareMeter
from phi3_ui.ui.handlers.conversations import Action
from phi3_ui.ui.handlers.export import ExportController
from phi3_ui.ui.handlers.manage import ManageHandlers
from phi3_ui.ui.page.components import Updates
from tests.support.stand_in_api import StandInApi
from tests.ui.handlers.compare_app import CompareApp
from tests.ui.handlers.doubles import ENTRY, App

REQUEST = cast(gr.Request, None)
REMOTE = "remote:lab/m"
SERVERS = """
lab = {url = "https://lab.example/v1", key = "sk-1"}
near = {url = "http://localhost:1/v1", models = ["m"]}
"""
FORM = {
    "preset": "remote",
    "kind": "",
    "source": "",
    "remote_name": "new",
    "remote_url": "https://new.example/v1",
    "remote_kind": "openai",
    "remote_key": "sk-2",
    "remote_models": "a, b",
    "remote_api_version": "",
}


@pytest.fixture
def api() -> StandInApi:
    return StandInApi()


@pytest.fixture
def remote(api: StandInApi, tmp_path: Path) -> Iterator[RemoteSource]:
    settings = Settings.read({"PHI3_UI_HOME": str(tmp_path), "PHI3_UI_REMOTE_SERVERS": SERVERS})
    remote = RemoteSource(settings, api.open_loop())
    remote.query_all()
    yield remote
    remote.close()


def use(app: App, remote: RemoteSource) -> None:
    """Let the app's models include the remote ones."""
    models = cast(Any, app.services.models)
    models.remote = remote
    app.models._mlflow = cast(Any, SimpleNamespace(render_card_links=lambda *_: ""))


def pick(app: App, key: str) -> Updates:
    shown: Updates = {}
    for updates in app.models.pick(key, REQUEST):
        shown |= updates
    return shown


@pytest.mark.parametrize(
    ("key", "words"), [(REMOTE, "Leaves this machine"), ("remote:near/m", "another server on this machine")]
)
def test_the_page_shows_the_destination_of_questions_before_the_first_one(
    remote: RemoteSource, key: str, words: str
) -> None:
    app = App()
    use(app, remote)
    shown = pick(app, key)
    page = app.page

    host = "lab.example" if key == REMOTE else "localhost:1"
    assert words in shown[page.composer.hint]
    assert host in shown[page.composer.hint]
    assert host in [chip["text"] for chip in shown[page.status.line]["chips"]]
    assert shown[page.status.line]["label"].startswith("reachable")
    assert shown[page.status.unload].interactive is False
    assert "Its server decides" in shown[page.card.panel]
    assert "sk-1" not in str(shown)


def test_a_model_with_an_unreachable_server_shows_the_same_reason_everywhere(
    api: StandInApi, remote: RemoteSource
) -> None:
    api.models = [{"no": "id"}]
    for server in remote.servers:
        remote._reports._cached.pop(server)
    remote._configured = (create_remote_server(name="lab", url="https://lab.example", models=()),)
    remote.query_all()
    app = App()
    use(app, remote)
    *_, lab = app.models.show_models(app.session)[app.page.status.menu]
    assert (lab["name"], lab["rows"]) == ("lab · lab.example", [])
    assert "Check the address of the remote server lab" in lab["problem"]

    shown = pick(app, REMOTE)
    status = shown[app.page.status.line]
    assert (status["label"], status["error"]) == ("unreachable", lab["problem"])
    assert "Check the address of the remote server lab" in shown[app.page.card.panel]


def test_a_remote_model_is_never_the_default(remote: RemoteSource) -> None:
    app = App()
    use(app, remote)
    updates = app.models.show_models(app.session)
    assert app.session.model.key == ENTRY.model_id
    *_, lab, near = updates[app.page.status.menu]
    assert (lab["name"], near["name"]) == ("lab · lab.example", "near · localhost:1")

    app.session.model.select(None)
    cast(Any, app.catalogue).list_models = list
    app.models.show_models(app.session)
    assert app.session.model.key is None


def test_a_question_is_answered_and_recorded_like_any_other(api: StandInApi, remote: RemoteSource) -> None:
    app = App()
    use(app, remote)
    pick(app, REMOTE)
    list(app.answers.send(app.session, "Hi", REMOTE, {"temperature": 0.5, "top_k": 3}))

    [answer] = app.store.answers
    assert (answer.text, answer.model) == ("Hello there.", "lab/m · Remote")
    [turn] = app.session.current.conversation.turns
    assert turn.request
    assert turn.request.model_id == REMOTE
    assert api.bodies[-1]["temperature"] == 0.5
    assert "top_k" not in api.bodies[-1]

    ExportController(app.page, app.services, app.conversations, lambda _: app.session)
    with pytest.raises(UserError, match="server and its key"):
        app.conversations.perform(app.session, Action("reproduce", turn.id))


def manage(app: App, monkeypatch: pytest.MonkeyPatch, *, is_single_user: bool) -> ManageHandlers:
    settings = Settings.read({})
    cast(Any, app.services).settings = SimpleNamespace(
        is_single_user=is_single_user, manage=True, tracking_uri=settings.tracking_uri
    )
    return ManageHandlers(app.page, app.services, lambda _: app.session, lambda _: {})


def test_only_the_user_of_a_single_user_app_adds_and_forgets_servers(
    api: StandInApi, remote: RemoteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App()
    use(app, remote)
    monkeypatch.setattr(gr, "Warning", lambda *_: None)
    cast(Any, app.page.add_model).form = {"remote_key": app.page.add_model.add}
    progress = app.page.add_model.progress
    request_count = len(api.requests)

    refused = manage(app, monkeypatch, is_single_user=False).add(REQUEST, **FORM)
    assert "Only the administrator" in refused[progress]
    assert len(api.requests) == request_count, "no server named by a visitor is contacted"

    handlers = manage(app, monkeypatch, is_single_user=True)
    invalid = handlers.add(REQUEST, **{**FORM, "remote_url": "file:///etc/passwd"})
    assert "http://" in invalid[progress]
    added = handlers.add(REQUEST, **FORM)
    assert "new was added, with 2 models" in added[progress]
    assert added[app.page.add_model.add] == "", "the key is not shown again"
    assert "sk-2" not in str(added)
    assert "already" in handlers.add(REQUEST, **FORM)[progress]

    app.session.model.set_entry(app.session.model.key, remote.find("remote:new/b"))
    manage(app, monkeypatch, is_single_user=False).forget_server(REQUEST)
    assert len(remote.servers) == 3
    handlers.forget_server(REQUEST)
    assert [server.name for server in remote.servers] == ["lab", "near"]


def test_a_remote_model_is_not_promoted(remote: RemoteSource, monkeypatch: pytest.MonkeyPatch) -> None:
    app = App()
    use(app, remote)
    app.session.model.set_entry(app.session.model.key, remote.find(REMOTE))
    shown = manage(app, monkeypatch, is_single_user=True).ask_promote("champion", REQUEST)

    assert "is a remote model" in shown[app.page.registry.question]


def test_a_comparison_never_preselects_a_remote_model_and_shows_the_destination_of_questions(
    remote: RemoteSource,
) -> None:
    app = CompareApp()
    use(app, remote)
    cast(Any, app.catalogue).list_models = lambda: [ENTRY]
    app.act("open")
    comparison = app.session.comparison
    assert comparison
    assert {side.model_id for side in comparison.contestants} == {ENTRY.model_id}

    meter = CompareMeter(app.page, app.services, app.models.meter, lambda _: app.session)
    for key, is_shown in ((REMOTE, True), ("remote:near/m", False), ("m-2", False)):
        sides = [{"model": model, "preset": "", "system": ""} for model in ("m-1", key)]
        event = SimpleNamespace(_data={"text": "Hi", "files": [], "sides": sides})
        shown = str(meter.count_draft("", REQUEST, cast(gr.EventData, event))[app.page.compare.meter])
        assert ("also sent to lab.example" in shown) is is_shown
