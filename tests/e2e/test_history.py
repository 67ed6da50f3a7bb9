"""Chats are kept: listed, found, renamed, deleted, branched, rated, across restarts of the browser and of the server."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Trace
from playwright.sync_api import Browser, BrowserContext, expect

from tests.conftest import Demo
from tests.e2e.conftest import Server, free_port, serve
from tests.support.chat_page import ChatPage

FRANCE, SPAIN = "What is the capital of France?", "And what is the capital of Spain?"


@dataclass
class Place:
    """A store of its own with the demo's models, and the port at which its servers are started one after the other."""

    home: Path
    port: int
    before: frozenset[str] = frozenset()  # the traces that the demo's store held already

    def serve(self, **more: str) -> AbstractContextManager[Server]:
        return serve(self.home, self.home / "app.log", port=self.port, **more)

    def traces(self) -> list[Trace]:
        client = MlflowClient(f"sqlite:///{self.home / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("phi3-chat")
        found = client.search_traces(locations=[experiment.experiment_id], max_results=500)
        return [trace for trace in found if trace.info.trace_id not in self.before]


@pytest.fixture
def place(demo: Demo, tmp_path: Path) -> Place:
    """The models' files are not copied: the store says where they are."""
    shutil.copy(demo.settings.home / "mlflow.db", tmp_path / "mlflow.db")
    return Place(tmp_path, free_port(), frozenset(trace.info.trace_id for trace in Place(tmp_path, 0).traces()))


@pytest.fixture
def person(browser: Browser) -> Iterator[Callable[[], BrowserContext]]:
    """A browser of somebody, who is known again in it."""
    contexts: list[BrowserContext] = []

    def come() -> BrowserContext:
        contexts.append(browser.new_context(viewport={"width": 1400, "height": 900}))
        return contexts[-1]

    yield come
    for context in contexts:
        context.close()


def visit(context: BrowserContext, server: Server, engine: str = "ONNX") -> ChatPage:
    page = context.new_page()
    page.goto(server.url)
    chat = ChatPage(page).ready().pick(engine)
    chat.setting("Temperature", 0)
    chat.setting("Max tokens", 16)
    return chat


def test_a_chat_goes_on_where_it_stood_after_a_restart(place: Place, person: Callable[[], BrowserContext]) -> None:
    me = person()
    with place.serve() as server:
        chat = visit(me, server)
        chat.answer(FRANCE)
        chat.answer(SPAIN)
        # Another version of the second turn, by the same question and by another.
        chat.act("retry")
        chat.wait_for_caption(2)
        expect(chat.page.locator(".phi3-versions")).to_have_text(re.compile(r"2/2"))
        chat.act("edit", 0)
        expect(chat.message).to_have_value(FRANCE)
        chat.message.fill("What is the capital of Germany?")
        chat.message.press("Enter")
        expect(chat.questions).to_have_count(1)
        chat.wait_for_caption(1)
        expect(chat.questions.first).to_have_text("What is the capital of Germany?")
        chat.act("show", 0)  # ‹
        expect(chat.questions).to_have_text([FRANCE, SPAIN])
        before = chat.texts()
        title = chat.chats.first.inner_text()
    me.pages[0].close()

    with place.serve() as server:
        chat = visit(me, server)
        expect(chat.chats).to_have_text([title])
        chat.chats.first.click()
        expect(chat.questions).to_have_text([FRANCE, SPAIN])
        assert chat.texts() == before
        expect(chat.page.locator(".phi3-versions")).to_have_text([re.compile("1/2"), re.compile("2/2")])
        chat.wait_for_caption(2)
        chat.answer("Thank you.")
        expect(chat.chats).to_have_count(1)

    traces = place.traces()
    assert len(traces) == 5
    assert len({trace.info.trace_metadata["mlflow.trace.session"] for trace in traces}) == 1
    asked = [trace.data.spans[0].inputs["messages"] for trace in traces]
    assert [message["content"] for message in max(asked, key=len)][::2] == [FRANCE, SPAIN, "Thank you."]


def test_chats_are_searched_renamed_and_deleted_for_good(place: Place, person: Callable[[], BrowserContext]) -> None:
    me = person()
    with place.serve() as server:
        chat = visit(me, server)
        chat.answer(FRANCE)
        chat.new_chat.click()
        expect(chat.questions).to_have_count(0)
        chat.answer("Write a poem about the sea.")
        expect(chat.chats).to_have_text(["Write a poem about the sea.", FRANCE])

        chat.search.fill("france CAPITAL")
        expect(chat.chats).to_have_text([FRANCE])
        chat.search.fill("no such words")
        expect(chat.page.locator("#phi3-chats")).to_contain_text("No chats found.")
        chat.search.fill("")
        expect(chat.chats).to_have_count(2)

        chat.in_list("sea", "rename").click()
        name = chat.page.locator(".phi3-rename")
        name.fill("Waves & <b>wind</b>")
        name.press("Enter")
        expect(chat.chats.first).to_have_text("Waves & <b>wind</b>")

        chat.in_list(FRANCE, "delete").click()
        expect(chat.chats).to_have_count(1)
        chat.page.locator('#phi3-chats button[name="restore"]').click()
        expect(chat.chats).to_have_count(2)
        expect(chat.questions).to_have_text([FRANCE])
        chat.in_list(FRANCE, "delete").click()
        expect(chat.chats).to_have_text(["Waves & <b>wind</b>"])
        expect(chat.questions).to_have_count(0)
    me.pages[0].close()

    with place.serve() as server:
        chat = visit(me, server)
        expect(chat.chats).to_have_text(["Waves & <b>wind</b>"])
    assert [trace.info.request_preview for trace in place.traces()] == ["Write a poem about the sea."]


def test_feedback_is_seen_by_mlflow_and_when_the_chat_is_opened_again(
    place: Place, person: Callable[[], BrowserContext]
) -> None:
    me = person()
    with place.serve() as server:
        chat = visit(me, server)
        chat.answer(FRANCE)
        chat.act("good")
        expect(chat.page.locator('#phi3-chat button[name="good"]')).to_have_text("✓ Good")
        comment = chat.page.locator("#phi3-comment textarea, #phi3-comment input")
        comment.fill("Paris is not mentioned.")
        chat.page.locator("#phi3-comment").get_by_role("button", name="Keep").click()
        expect(comment).to_be_hidden()
        chat.act("bad")
        expect(chat.page.locator('#phi3-chat button[name="bad"]')).to_have_text("✓ Bad")
        expect(comment).to_have_value("Paris is not mentioned.")
    me.pages[0].close()
    with place.serve() as server:
        chat = visit(me, server)
        chat.chats.first.click()
        expect(chat.page.locator('#phi3-chat button[name="bad"]')).to_have_text("✓ Bad")

    (trace,) = place.traces()
    (given,) = trace.info.assessments
    assert (given.feedback.value, given.rationale, given.source.source_type) == (
        False,
        "Paris is not mentioned.",
        "HUMAN",
    )


def test_a_comment_that_was_typed_is_kept_when_another_answer_is_rated(
    place: Place, person: Callable[[], BrowserContext]
) -> None:
    with place.serve() as server:
        chat = visit(person(), server)
        chat.answer(FRANCE)
        chat.answer(SPAIN)
        comment = chat.page.locator("#phi3-comment textarea, #phi3-comment input")
        chat.act("bad", 0)
        comment.fill("Too long.")
        chat.act("good", 1)
        expect(comment).to_have_value("")
        comment.fill("Right.")
        chat.new_chat.click()
        expect(chat.questions).to_have_count(0)
        expect(chat.page.locator("#phi3-comment")).to_be_hidden()
    assert {
        (trace.info.request_preview, given.feedback.value, given.rationale)
        for trace in place.traces()
        for given in trace.info.assessments
    } == {(FRANCE, False, "Too long."), (SPAIN, True, "Right.")}


def test_a_page_that_is_loaded_anew_shows_its_chat_and_what_was_typed(
    demo: Demo, place: Place, person: Callable[[], BrowserContext]
) -> None:
    me, pipeline = person(), demo.entry("chat").model_id
    with place.serve() as server:
        first = visit(me, server, "ONNX").pick("Pipeline")
        first.answer(FRANCE)
        first.act("good")
        comment = first.page.locator("#phi3-comment textarea, #phi3-comment input")
        comment.fill("In a word.")
        first.message.fill("And of Spain, in one word")
        second = visit(me, server)
        second.message.fill("Not asked yet")
        second.pick("Pipeline")
        for chat in (first, second):  # the page says so with its next look at the model's state
            expect(chat.page.locator(".phi3-chats")).to_have_attribute("data-model", pipeline)
    with place.serve():
        for chat, draft in ((first, "And of Spain, in one word"), (second, "Not asked yet")):
            # The page does so by itself once it finds that it is another server, in its own time.
            chat.page.reload()
            expect(chat.ready().message).to_have_value(draft)
        expect(first.questions).to_have_text([FRANCE])
        expect(first.card).to_contain_text("pipeline")
        expect(second.questions).to_have_count(0)
        expect(second.card).to_contain_text("pipeline")
        first.message.press("Enter")
        expect(first.questions).to_have_text([FRANCE, "And of Spain, in one word"])
        first.wait_for_caption(2)
        first.page.reload()
        expect(first.ready().questions).to_have_count(2)
        expect(first.message).to_have_value("")
    assert [given.rationale for trace in place.traces() for given in trace.info.assessments] == ["In a word."]


def test_what_was_typed_comes_back_after_an_edit_and_is_not_lost_by_undo(
    place: Place, person: Callable[[], BrowserContext]
) -> None:
    with place.serve() as server:
        chat = visit(person(), server)
        chat.answer(FRANCE)
        chat.message.fill("And of")
        chat.act("edit")
        expect(chat.message).to_have_value(FRANCE)
        chat.message.press("Escape")
        expect(chat.message).to_have_value("And of")
        chat.act("edit")
        expect(chat.message).to_have_value(FRANCE)
        chat.message.fill(SPAIN)
        chat.message.press("Enter")
        expect(chat.questions).to_have_text([SPAIN])
        expect(chat.message).to_have_value("And of")
        chat.wait_for_caption(1)
        chat.act("undo")
        expect(chat.questions).to_have_count(0)
        expect(chat.message).to_have_value("And of")
        chat.message.fill("")
        chat.act("show")  # Redo
        expect(chat.questions).to_have_count(1)
        chat.act("undo")
        expect(chat.message).to_have_value(SPAIN)
        chat.act("show")
        expect(chat.questions).to_have_text([SPAIN])
        expect(chat.message).to_have_value("")


def test_what_was_deleted_on_another_page_is_neither_sent_nor_kept_again(
    place: Place, person: Callable[[], BrowserContext]
) -> None:
    me = person()
    with place.serve() as server:
        here, there = visit(me, server), visit(me, server)
        here.answer(FRANCE)
        expect(there.chats).to_have_text([FRANCE])
        there.chats.first.click()
        expect(there.questions).to_have_text([FRANCE])
        here.in_list(FRANCE, "delete").click()
        expect(here.chats).to_have_count(0)
        there.act("retry")
        expect(there.page.get_by_text("This chat no longer exists")).to_be_visible()
        there.message.fill(SPAIN)
        there.message.press("Enter")
        expect(there.page.get_by_text("This chat was deleted on another page.")).to_be_visible()
        expect(there.questions).to_have_text([SPAIN])
        there.wait_for_caption(1)
        expect(there.chats).to_have_text([SPAIN])
    (trace,) = place.traces()
    assert FRANCE not in trace.to_json()


def test_undo_takes_the_question_back_into_its_box(place: Place, person: Callable[[], BrowserContext]) -> None:
    with place.serve() as server:
        chat = visit(person(), server)
        chat.answer(FRANCE)
        chat.act("undo")
        expect(chat.questions).to_have_count(0)
        expect(chat.message).to_have_value(FRANCE)
        chat.act("show")  # Redo
        expect(chat.questions).to_have_text([FRANCE])
        chat.act("undo")
        expect(chat.questions).to_have_count(0)
        chat.message.press("Enter")
        chat.wait_for_caption(1)
        expect(chat.page.locator(".phi3-versions")).to_have_text(re.compile("2/2"))


def test_a_closed_tab_and_an_ended_server_keep_what_was_written(
    place: Place, person: Callable[[], BrowserContext]
) -> None:
    me = person()
    with place.serve() as server:
        chat = visit(me, server)
        chat.setting("Max tokens", 2000)
        chat.ask("Write a long story about the sea.")
        chat.wait_for_text()
        me.pages[0].close()
        chat = visit(me, server)
        chat.setting("Max tokens", 2000)
        chat.ask("Write a long story about the moon.")
        chat.wait_for_text()
    me.pages[0].close()

    by_question = {trace.info.request_preview: trace for trace in place.traces()}
    assert set(by_question) == {"Write a long story about the sea.", "Write a long story about the moon."}
    for trace in by_question.values():
        choice = trace.data.spans[0].outputs["choices"][0]
        assert choice["finish_reason"] == "cancelled"
        assert choice["message"]["content"].strip()
