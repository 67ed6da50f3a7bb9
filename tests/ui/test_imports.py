"""Background imports: exact results, one import per user, and no file is left behind."""

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from starlette.requests import Request

from phi3_ui.accounts.quotas import Person
from phi3_ui.errors import UserError
from phi3_ui.export.archive import to_json
from phi3_ui.store.conversations import recorder as recorder_module
from phi3_ui.store.conversations.operations import ConversationDeletion, Step, TurnRecord
from phi3_ui.store.conversations.turn_writer import ConversationStore
from phi3_ui.ui import import_route
from phi3_ui.ui.import_route import ImportRoute
from phi3_ui.ui.imports import ImportJob, Imports
from phi3_ui.ui.open_pages import OpenPages
from phi3_ui.ui.render.imports import render_import
from tests.store.conversations.writing import Writer, make_long, open_store, replace_writer, wait_for
from tests.support.turns import run_together

TIMEOUT = 60
ANNA, BOB = Person("anna"), Person("bob")
TAB = "0" * 32


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Writer:
    return replace_writer(monkeypatch)


@pytest.fixture
def store(writer: Writer, tmp_path: Path) -> Iterator[ConversationStore]:
    store = open_store(tmp_path)
    yield store
    store.recorder.close()


@pytest.fixture
def imports(store: ConversationStore, tmp_path: Path) -> Iterator[Imports]:
    (tmp_path / "files").mkdir()
    imports = Imports(store, tmp_path / "files")
    yield imports
    imports.close(TIMEOUT)


def _chat(title: str, *questions: str, **fields: Any) -> dict[str, Any]:
    return {"title": title, "messages": [{"role": "user", "content": question} for question in questions], **fields}


def _begin(imports: Imports, chats: object, person: Person = ANNA) -> ImportJob:
    with imports.receive(person) as job:
        job.file.write(json.dumps(chats).encode())
    return job


def _list_titles(store: ConversationStore, person: Person = ANNA) -> set[str]:
    return {summary.title for summary in store.history.list_conversations(person.user_id)}


def test_the_result_states_what_was_stored_what_was_not_and_why(
    imports: Imports, store: ConversationStore, writer: Writer, tmp_path: Path
) -> None:
    picture = {"title": "P", "messages": [{"role": "user", "content": "a", "images": ["x"]}]}
    job = _begin(imports, [_chat("A", "1", "2"), picture, {"x": 1}, _chat("B", "3")])

    assert job.wait(TIMEOUT)
    state = job.state
    assert (state.chats, state.turns, state.refused, state.is_finished) == (2, 3, 2, True)
    assert _list_titles(store) == {"A", "B"}
    assert len(writer.list_turns("anna")) == 3
    assert render_import("ro", state) == {
        "title": "2 conversații importate. 3 întrebări.",
        "detail": "2 conversații nu au fost importate. Eliminați din fișier ceea ce este enumerat mai jos, apoi importați-le din nou.",
        "fraction": None,
        "reasons": [
            "conversația 2 „P”: messages.0.images nu poate fi importat: se poate importa numai text",
            "conversația 3: nu conține o listă de mesaje, ci câmpurile x",
        ],
    }
    assert list((tmp_path / "files").iterdir()) == []
    assert job.file.closed


def test_a_file_without_chats_is_refused_in_one_sentence(imports: Imports) -> None:
    job = _begin(imports, {"messages": 3})
    assert job.wait(TIMEOUT)
    assert "no readable chat (it contains no messages)" in render_import("en", job.state)["title"]


def test_a_chat_that_the_store_rejects_is_not_reported_as_imported(
    imports: Imports, store: ConversationStore, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_RETRY_FIRST", 0.01)
    monkeypatch.setattr(recorder_module, "_RETRY_LAST", 0.01)

    def refuse(step: Step) -> None:
        if isinstance(step, TurnRecord) and step.turn.question == "bad":
            raise ValueError("too long")

    writer.on_write = refuse
    job = _begin(imports, [_chat("A", "1", "bad", "2"), _chat("B", "3")])

    assert job.wait(TIMEOUT)
    assert (job.state.chats, job.state.turns, job.state.refused) == (1, 1, 1)
    assert str(job.state.reasons[0]).startswith("chat 1 “A”: the tracking store rejected it")
    assert _list_titles(store) == {"B"}


def test_cancelling_drops_the_chat_being_written_and_all_later_ones(
    imports: Imports, store: ConversationStore, writer: Writer
) -> None:
    reached, may_continue = threading.Event(), threading.Event()

    def wait_in_second(step: Step) -> None:
        if isinstance(step, TurnRecord) and step.turn.question == "3":
            reached.set()
            assert may_continue.wait(TIMEOUT)

    writer.on_write = wait_in_second
    job = _begin(imports, [_chat("A", "1"), _chat("B", "2", "3", "4"), _chat("C", "5")])
    assert reached.wait(TIMEOUT)
    job.cancel()
    assert job.wait(TIMEOUT)
    may_continue.set()

    assert (job.state.chats, job.state.turns, job.state.is_cancelled) == (1, 1, True)
    assert "cancelled" in render_import("en", job.state)["detail"]
    assert _list_titles(store) == {"A"}
    assert store.recorder.flush(TIMEOUT)
    deleted = [step.conversation_id for step in writer.written if isinstance(step, ConversationDeletion)]
    assert len(deleted) == 1
    assert {step.turn.question for step in writer.written if isinstance(step, TurnRecord)} <= {"1", "2", "3"}


def test_shutdown_keeps_the_chat_being_written_in_the_journal(
    imports: Imports, store: ConversationStore, writer: Writer
) -> None:
    reached, may_continue = threading.Event(), threading.Event()

    def wait_at_first(_: Step) -> None:
        reached.set()
        assert may_continue.wait(TIMEOUT)

    writer.on_write = wait_at_first
    _begin(imports, [_chat("A", "1", "2"), _chat("B", "3")])
    assert reached.wait(TIMEOUT)
    imports.close(TIMEOUT)
    may_continue.set()
    assert store.recorder.flush(TIMEOUT)
    assert len(writer.list_turns("anna")) == 2
    assert _list_titles(store) == {"A"}


def test_another_users_import_finishes_while_10000_turns_are_imported(
    imports: Imports, store: ConversationStore, writer: Writer
) -> None:
    both_pending = threading.Event()
    writer.on_write = lambda _: wait_for(both_pending)
    with imports.receive(ANNA) as long:
        long.file.write(to_json(make_long(10_000, 10), "long").encode())
    short = _begin(imports, _chat("B", "1", "2", "3"), BOB)
    while not (store.recorder.list_pending("bob") and store.recorder.list_pending("anna")):
        assert not long.wait(0.01)
    both_pending.set()

    assert short.wait(TIMEOUT)
    assert long.wait(10 * TIMEOUT)
    assert (short.state.turns, long.state.turns) == (3, 10_000)
    order = [step.visitor_id for step in writer.written if isinstance(step, TurnRecord)]
    assert max(index for index, owner in enumerate(order) if owner == "bob") < 20


def test_imports_are_limited_to_one_per_user_and_four_per_address(imports: Imports, writer: Writer) -> None:
    may_continue = threading.Event()
    writer.on_write = lambda _: wait_for(may_continue)
    visitors = [Person(f"visitor-{number}", "192.0.2.1") for number in range(5)]
    jobs = [_begin(imports, _chat("A", "1"), person) for person in visitors[:4]]
    for person in (visitors[0], visitors[4]):
        with pytest.raises(UserError, match="already being imported"):
            _begin(imports, _chat("A", "1"), person)
    may_continue.set()
    assert all(job.wait(TIMEOUT) for job in jobs)
    imports.close(TIMEOUT)  # joins the threads
    assert not imports._running


def test_two_threads_cannot_begin_two_imports_of_one_user(imports: Imports, writer: Writer) -> None:
    may_continue = threading.Event()
    writer.on_write = lambda _: wait_for(may_continue)
    outcomes = list[object]()

    def begin() -> None:
        try:
            outcomes.append(_begin(imports, _chat("A", "1")))
        except UserError as error:
            outcomes.append(error.code)

    run_together(*[begin] * 8)
    may_continue.set()
    assert sorted(map(str, outcomes)).count("import_running") == 7


class Upload:
    """A request with a body that arrives in chunks; the last one is followed by `end`."""

    def __init__(self, *pieces: bytes, tab: str = TAB, end: str = "http.request") -> None:
        self._messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        self._messages.append({"type": end, "body": b"", "more_body": False})
        self._headers = [(b"x-phi3-tab", tab.encode()), (b"accept-language", b"ro")]

    async def _receive(self) -> dict[str, Any]:
        if not self._messages:
            await anyio.sleep_forever()
        return self._messages.pop(0)

    def stall(self) -> "Upload":
        """Make the body end without a final message."""
        self._messages.pop()
        return self

    def send(self, route: ImportRoute) -> tuple[int, str]:
        """Return the status and the body of the response."""
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/import",
            "headers": self._headers,
            "client": ("192.0.2.1", 5),
        }
        with start_blocking_portal() as portal:  # a separate event loop: Playwright's may run in this thread
            response = portal.call(route.receive_file, Request(scope, self._receive))
        return response.status_code, bytes(response.body).decode()


def test_a_file_belongs_to_the_page_whose_tab_sends_it(imports: Imports, store: ConversationStore) -> None:
    pages = OpenPages(0)
    page, other = (pages.get(key, "en", login) for key, login in (("a", None), ("b", "anna")))
    pages.claim_tab("a", None, TAB, "client")
    pages.claim_tab("b", "anna", "1" * 32, "client")
    route = ImportRoute(pages, imports, None)
    content = json.dumps(_chat("A", "1")).encode()

    # no tab, another user's tab without the login, and guesses
    for tab in ("", "2" * 32, "1" * 32, TAB[:-1], f"{TAB}0"):
        status, body = Upload(content, tab=tab).send(route)
        assert (status, "Reîncărcați-o" in body) == (403, True), tab
    assert Upload(content[:5], content[5:]).send(route) == (202, "{}")

    job = imports.find(page.user_id)
    assert job
    assert job.wait(TIMEOUT)
    assert _list_titles(store, page.person) == {"A"}
    assert imports.find(other.user_id) is None
    assert _list_titles(store, other.person) == set()
    assert Upload(content, tab="1" * 32).send(ImportRoute(pages, imports, lambda _: "bob"))[0] == 403
    assert Upload(content, tab="1" * 32).send(ImportRoute(pages, imports, lambda _: "anna"))[0] == 202


def test_an_upload_that_breaks_or_stalls_leaves_nothing(
    imports: Imports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_route, "_STALL_SECONDS", 0.05)
    pages = OpenPages(0)
    user_id = pages.get("a", "en").user_id
    pages.claim_tab("a", None, TAB, "client")
    route = ImportRoute(pages, imports, None)

    assert Upload(b"[", end="http.disconnect").send(route)[0] == 400
    status, body = Upload(b"[").stall().send(route)
    assert (status, "Încărcarea s-a blocat" in body) == (408, True)
    assert imports.find(user_id) is None
    assert not imports._running
    assert list((tmp_path / "files").iterdir()) == []
    assert Upload(json.dumps(_chat("A", "1")).encode()).send(route)[0] == 202


def test_an_unexpected_error_is_reported_and_allows_another_import(
    imports: Imports, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(file: io.IOBase) -> Iterator[object]:
        raise RuntimeError("boom")

    monkeypatch.setattr("phi3_ui.ui.imports.iterate_chats", fail)
    job = _begin(imports, [])
    assert job.wait(TIMEOUT)
    assert "RuntimeError" in render_import("en", job.state)["title"]
    assert "boom" in caplog.text
    imports.close(TIMEOUT)
    assert not imports._running
