"""What survives a restart: one app is used by several visitors, stopped while it answers two of them, and started again."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, expect

from phi3_ui.testing import Reply
from tests.e2e.conftest import DESKTOP, ScriptedStore, open_chat
from tests.support.app_server import Server, find_free_port, find_traces, serve
from tests.support.chat_page import ChatPage

FRANCE, SPAIN = "What is the capital of France?", "And what is the capital of Spain?"
SEA, MOON = "Write a long story about the sea.", "Write a long story about the moon."


class Visitors:
    """One browser context for each visitor, and the pages that they have open."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.pages: dict[str, ChatPage] = {}

    def come(self, name: str, server: Server) -> ChatPage:
        """Open the app as a new visitor."""
        self.pages[name] = open_chat(self._browser.new_context(viewport=DESKTOP), server)
        return self.pages[name]

    def come_back(self, name: str, server: Server) -> ChatPage:
        """Open the app in a new tab of a visitor who has closed the old one."""
        context = self.pages[name].page.context
        for page in context.pages:
            page.close()
        self.pages[name] = open_chat(context, server)
        return self.pages[name]

    def close(self) -> None:
        for context in {chat.page.context for chat in self.pages.values()}:
            context.close()


@dataclass
class Restarted:
    """The restarted app, and what the visitors saw before."""

    server: Server
    store: ScriptedStore
    visitors: Visitors
    texts: list[str]
    """Questions and answers as shown to the visitor with several versions."""
    title: str
    """Title of the same visitor's chat."""
    drafts: dict[str, str] = field(default_factory=dict)
    """The drafts in the message box, by tab."""


@pytest.fixture(scope="module")
def restarted(
    browser: Browser, scripted_store: ScriptedStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Restarted]:
    home = scripted_store.copy_to(tmp_path_factory.mktemp("restart"))
    model, port, visitors = scripted_store.model, find_free_port(), Visitors(browser)
    model.reset()
    scripted_store.other.reset()
    with serve(home, home / "before.log", port=port) as server:
        texts, title = make_versions(visitors.come("versions", server), scripted_store)
        delete_one_chat(visitors.come("list", server))
        rate(visitors.come("feedback", server))
        first = visitors.come("first tab", server)
        second = open_chat(first.page.context, server)
        visitors.pages["second tab"] = second
        drafts = leave_drafts(first, second, scripted_store)
        model.enqueue(
            Reply("wave ", endless=True, seconds_per_token=0.1, question=SEA),
            Reply("crater ", endless=True, seconds_per_token=0.1, question=MOON),
        )
        for name, question in (("closed tab", SEA), ("open tab", MOON)):
            chat = visitors.come(name, server)
            chat.setting("Max tokens", 4000)
            chat.ask(question)
            chat.wait_for_text()
        visitors.pages["closed tab"].page.close()
    with serve(home, home / "after.log", port=port) as server:
        yield Restarted(server, scripted_store, visitors, texts, title, drafts)
        visitors.close()


def make_versions(chat: ChatPage, store: ScriptedStore) -> tuple[list[str], str]:
    """Ask two turns, each with two versions; return the shown texts and the chat's title."""
    replies = [Reply("Paris."), Reply("Madrid."), Reply("Madrid, in Spain."), Reply("Berlin.")]
    store.model.enqueue(*replies)
    chat.answer(FRANCE)
    chat.answer(SPAIN)
    chat.press("retry")
    chat.wait_for_caption(2)
    expect(chat.versions).to_have_text(re.compile(r"2/2"))
    chat.edit("What is the capital of Germany?", 0)
    expect(chat.questions).to_have_count(1)
    chat.wait_for_caption(1)
    expect(chat.questions.first).to_have_text("What is the capital of Germany?")
    chat.press("show", 0)  # ‹
    expect(chat.questions).to_have_text([FRANCE, SPAIN])
    expect(chat.answers).to_have_text(["Paris.", "Madrid, in Spain."])
    return chat.texts(), chat.chats.first.inner_text()


def delete_one_chat(chat: ChatPage) -> None:
    """Create two chats; rename one and delete the other."""
    chat.answer(FRANCE)
    chat.start_new_chat()
    chat.answer("Write a poem about the sea.")
    expect(chat.chats).to_have_count(2)
    chat.list_button("sea", "rename").click()
    name = chat.page.locator(".phi3-rename")
    name.fill("Waves & <b>wind</b>")
    name.press("Enter")
    expect(chat.chats.first).to_have_text("Waves & <b>wind</b>")
    chat.list_button(FRANCE, "delete").click()
    expect(chat.chats).to_have_text(["Waves & <b>wind</b>"])


def rate(chat: ChatPage) -> None:
    """Rate with a thumb and a comment, and then with the other thumb."""
    chat.answer(FRANCE)
    chat.press("good")
    expect(chat.action("good")).to_have_attribute("aria-pressed", "true")
    chat.comment.fill("Paris is not mentioned.")
    chat.page.locator("#phi3-comment").get_by_role("button", name="Save").click()
    expect(chat.comment).to_be_hidden()
    chat.press("bad")
    expect(chat.action("bad")).to_have_attribute("aria-pressed", "true")
    expect(chat.comment).to_have_value("Paris is not mentioned.")


def leave_drafts(first: ChatPage, second: ChatPage, store: ScriptedStore) -> dict[str, str]:
    """Leave a draft and the other model in two tabs of one visitor; in the first, also a typed comment."""
    first.pick(store.other.name)
    first.answer(FRANCE)
    first.press("good")
    first.comment.fill("In a word.")
    first.message.fill("And of Spain, in one word")
    second.message.fill("Not sent yet")
    second.pick(store.other.name)
    for chat in (first, second):  # written to the page at the next refresh of the model's state
        expect(chat.page.locator(".phi3-chats")).to_have_attribute("data-model", store.other.model_id)
    return {"first tab": "And of Spain, in one word", "second tab": "Not sent yet"}


def test_a_chat_continues_where_it_was(restarted: Restarted) -> None:
    chat = restarted.visitors.come_back("versions", restarted.server)
    expect(chat.chats).to_have_text([restarted.title])
    chat.chats.first.click()
    expect(chat.questions).to_have_text([FRANCE, SPAIN])
    assert chat.texts() == restarted.texts
    expect(chat.versions).to_have_text([re.compile("1/2"), re.compile("2/2")])
    chat.wait_for_caption(2)
    chat.answer("Thank you.")
    expect(chat.chats).to_have_count(1)
    sent = restarted.store.model.requests[-1].messages
    assert [message["content"] for message in sent] == [
        FRANCE,
        "Paris.",
        SPAIN,
        "Madrid, in Spain.",
        "Thank you.",
    ]


def test_a_deleted_chat_is_gone_for_good_and_a_new_title_stays(restarted: Restarted) -> None:
    chat = restarted.visitors.come_back("list", restarted.server)
    expect(chat.chats).to_have_text(["Waves & <b>wind</b>"])
    (trace,) = find_traces(restarted.server.home, chat.chat_ids())
    assert trace.info.request_preview == "Write a poem about the sea."
    user = trace.info.trace_metadata["mlflow.trace.user"]
    of_visitor = [
        other for other in find_traces(restarted.server.home) if other.info.trace_metadata["mlflow.trace.user"] == user
    ]
    assert len(of_visitor) == 1


def test_feedback_is_shown_again_and_stored_in_mlflow(restarted: Restarted) -> None:
    chat = restarted.visitors.come_back("feedback", restarted.server)
    chat.chats.first.click()
    expect(chat.action("bad")).to_have_attribute("aria-pressed", "true")
    (trace,) = find_traces(restarted.server.home, chat.chat_ids())
    (given,) = trace.info.assessments
    assert given.feedback
    assert (given.feedback.value, given.rationale, given.source.source_type) == (
        False,
        "Paris is not mentioned.",
        "HUMAN",
    )


def test_a_reloaded_tab_shows_its_chat_model_draft_and_comment(restarted: Restarted) -> None:
    first, second = (restarted.visitors.pages[name] for name in ("first tab", "second tab"))
    for name, draft in restarted.drafts.items():
        # The page reloads itself once it notices that the server has changed, at an unknown time.
        expect(restarted.visitors.pages[name].reload().message).to_have_value(draft)
    expect(first.questions).to_have_text([FRANCE])
    expect(first.card).to_contain_text(restarted.store.other.name)
    expect(second.questions).to_have_count(0)
    expect(second.card).to_contain_text(restarted.store.other.name)
    first.message.press("Enter")
    expect(first.questions).to_have_text([FRANCE, "And of Spain, in one word"])
    first.wait_for_caption(2)
    first.reload()
    expect(first.questions).to_have_count(2)
    expect(first.message).to_have_value("")
    traces = find_traces(restarted.server.home, first.chat_ids())
    assert [given.rationale for trace in traces for given in trace.info.assessments] == ["In a word."]


@pytest.mark.parametrize(("visitor", "question"), [("closed tab", SEA), ("open tab", MOON)])
def test_an_answer_cut_off_by_a_closed_tab_or_by_shutdown_keeps_its_text(
    restarted: Restarted, visitor: str, question: str
) -> None:
    chat = restarted.visitors.come_back(visitor, restarted.server)
    expect(chat.chats).to_have_text([question])
    (trace,) = find_traces(restarted.server.home, chat.chat_ids())
    choice = trace.data.spans[0].outputs["choices"][0]
    assert choice["finish_reason"] == "cancelled"
    assert choice["message"]["content"].strip()
