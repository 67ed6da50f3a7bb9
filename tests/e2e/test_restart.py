"""Tests for what survives a restart: two visitors use the app, which is stopped during an answer and started again."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from mlflow.entities import Trace
from playwright.sync_api import Browser, BrowserContext, expect

from phi3_ui.testing import Reply
from tests.e2e.conftest import DESKTOP, ScriptedStore, open_chat
from tests.support.app_server import Server, find_free_port, find_traces, serve
from tests.support.chat_page import ChatPage

FRANCE, SPAIN = "What is the capital of France?", "And what is the capital of Spain?"
ITALY, RIVER = "What is the capital of Italy?", "Which river flows through Paris?"
SEA, MOON = "Write a long story about the sea.", "Write a long story about the moon."


@dataclass
class RestartedApp:
    """The app after a restart, and what two visitors saw before it."""

    server: Server
    store: ScriptedStore
    visitor: BrowserContext
    """Has closed all tabs."""
    tabs: dict[str, ChatPage]
    """The other visitor's tabs, by the draft in their message box."""
    texts: list[str]
    """The questions and answers shown in the chat with several versions."""
    titles: list[str]
    """The titles of the visitor's chats."""


@pytest.fixture(scope="module")
def restarted(
    browser: Browser, scripted_store: ScriptedStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RestartedApp]:
    home = scripted_store.copy_to(tmp_path_factory.mktemp("restart"))
    model, port = scripted_store.model, find_free_port()
    visitor, other_visitor = (browser.new_context(viewport=DESKTOP) for _ in range(2))
    model.reset()
    scripted_store.other.reset()
    with serve(home, home / "before.log", port=port) as server:
        chat = open_chat(visitor, server)
        texts = make_versions(chat, scripted_store)
        rename_and_delete_chats(chat)
        rate_answer(chat)
        tabs = leave_drafts([open_chat(other_visitor, server) for _ in range(2)], scripted_store)
        model.enqueue(
            Reply("wave ", endless=True, seconds_per_token=0.1, question=SEA),
            Reply("crater ", endless=True, seconds_per_token=0.1, question=MOON),
        )
        closed_tab, open_tab = chat, open_chat(visitor, server)
        for tab, question in ((closed_tab, SEA), (open_tab, MOON)):
            tab.start_new_chat()
            tab.set_setting("Max tokens", 4000)
            tab.ask(question)
            tab.wait_for_text()
        closed_tab.page.close()
        open_tab.chats.filter(has_text=SEA).wait_for()
        titles = open_tab.chats.all_inner_texts()
    open_tab.page.close()
    with serve(home, home / "after.log", port=port) as server:
        yield RestartedApp(server, scripted_store, visitor, tabs, texts, titles)
        visitor.close()
        other_visitor.close()


@pytest.fixture(scope="module")
def chat(restarted: RestartedApp) -> ChatPage:
    """Open a new tab for the visitor who has closed all others."""
    return open_chat(restarted.visitor, restarted.server)


def make_versions(chat: ChatPage, store: ScriptedStore) -> list[str]:
    """Create two turns with two versions each, and return the texts shown."""
    replies = [Reply("Paris."), Reply("Madrid."), Reply("Madrid, in Spain."), Reply("Berlin.")]
    store.model.enqueue(*replies)
    chat.answer(FRANCE)
    chat.answer(SPAIN)
    chat.press("retry")
    chat.wait_for_caption(2)
    expect(chat.variants).to_have_text(re.compile(r"2/2"))
    chat.edit("What is the capital of Germany?", 0)
    expect(chat.questions).to_have_count(1)
    chat.wait_for_caption(1)
    expect(chat.questions.first).to_have_text("What is the capital of Germany?")
    chat.press("show", 0)  # ‹
    expect(chat.questions).to_have_text([FRANCE, SPAIN])
    expect(chat.answers).to_have_text(["Paris.", "Madrid, in Spain."])
    return chat.texts()


def rename_and_delete_chats(chat: ChatPage) -> None:
    """Create two chats, rename one and delete the other."""
    chat.start_new_chat()
    chat.answer(ITALY)
    chat.start_new_chat()
    chat.answer("Write a poem about the sea.")
    expect(chat.chats).to_have_count(3)
    chat.list_button("sea", "rename").click()
    name = chat.page.locator(".phi3-rename")
    name.fill("Waves & <b>wind</b>")
    name.press("Enter")
    expect(chat.chats.first).to_have_text("Waves & <b>wind</b>")
    chat.list_button(ITALY, "delete").click()
    expect(chat.chats).to_have_text(["Waves & <b>wind</b>", FRANCE])


def rate_answer(chat: ChatPage) -> None:
    """Rate an answer with a thumb and a comment, then with the other thumb."""
    chat.start_new_chat()
    chat.answer(RIVER)
    chat.press("good")
    expect(chat.action_buttons("good")).to_have_attribute("aria-pressed", "true")
    chat.comment.fill("Paris is not mentioned.")
    chat.page.locator("#phi3-comment").get_by_role("button", name="Save").click()
    expect(chat.comment).to_be_hidden()
    chat.press("bad")
    expect(chat.action_buttons("bad")).to_have_attribute("aria-pressed", "true")
    expect(chat.comment).to_have_value("Paris is not mentioned.")


def leave_drafts(tabs: list[ChatPage], store: ScriptedStore) -> dict[str, ChatPage]:
    """Leave a draft and the other model in two tabs of one visitor, and a typed comment in the first."""
    first, second = tabs
    first.pick(store.other.name)
    first.answer(FRANCE)
    first.press("good")
    first.comment.fill("In a word.")
    drafts = {"And of Spain, in one word": first, "Not sent yet": second}
    for draft, tab in drafts.items():
        tab.message.fill(draft)
    second.pick(store.other.name)
    for tab in tabs:  # stored in the page at the next refresh of the model's state
        expect(tab.page.locator(".phi3-chats")).to_have_attribute("data-model", store.other.model_id)
    return drafts


def test_a_chat_can_be_continued(restarted: RestartedApp, chat: ChatPage) -> None:
    expect(chat.chats).to_have_text(restarted.titles)
    chat.chats.filter(has_text=FRANCE).click()
    expect(chat.questions).to_have_text([FRANCE, SPAIN])
    assert chat.texts() == restarted.texts
    expect(chat.variants).to_have_text([re.compile("1/2"), re.compile("2/2")])
    chat.wait_for_caption(2)
    chat.answer("Thank you.")
    expect(chat.chats).to_have_count(len(restarted.titles))
    sent = restarted.store.model.requests[-1].messages
    assert [message["content"] for message in sent] == [
        FRANCE,
        "Paris.",
        SPAIN,
        "Madrid, in Spain.",
        "Thank you.",
    ]


def test_a_deleted_chat_stays_deleted_and_a_renamed_one_keeps_its_title(
    restarted: RestartedApp, chat: ChatPage
) -> None:
    (chat_id,) = {
        entry.get_attribute("value") or "" for entry in chat.chats.filter(has_text="Waves & <b>wind</b>").all()
    }
    (trace,) = find_traces(restarted.server.home, {chat_id})
    assert trace.info.request_preview == "Write a poem about the sea."
    expect(chat.chats).to_have_count(len(restarted.titles))
    expect(chat.chats.filter(has_text=ITALY)).to_have_count(0)
    assert ITALY not in {trace.info.request_preview for trace in find_traces(restarted.server.home)}


def test_feedback_is_shown_again_and_stored_in_mlflow(restarted: RestartedApp, chat: ChatPage) -> None:
    chat.chats.filter(has_text=RIVER).click()
    expect(chat.questions).to_have_text([RIVER])
    expect(chat.action_buttons("bad")).to_have_attribute("aria-pressed", "true")
    (trace,) = find_question_traces(restarted, chat, RIVER)
    (assessment,) = trace.info.assessments
    assert assessment.feedback
    assert (assessment.feedback.value, assessment.rationale, assessment.source.source_type) == (
        False,
        "Paris is not mentioned.",
        "HUMAN",
    )


def test_a_reloaded_tab_restores_its_chat_model_draft_and_comment(restarted: RestartedApp) -> None:
    first, second = restarted.tabs.values()
    for draft, tab in restarted.tabs.items():
        # The page also reloads by itself when it detects the new server, at an unpredictable time.
        expect(tab.reload().message).to_have_value(draft)
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
    assert [assessment.rationale for trace in traces for assessment in trace.info.assessments] == ["In a word."]


@pytest.mark.parametrize("question", [SEA, MOON], ids=["closed tab", "open tab"])
def test_an_answer_interrupted_by_a_closed_tab_or_the_restart_keeps_its_text(
    restarted: RestartedApp, chat: ChatPage, question: str
) -> None:
    expect(chat.chats.filter(has_text=question)).to_have_count(1)
    (trace,) = find_question_traces(restarted, chat, question)
    choice = trace.data.spans[0].outputs["choices"][0]
    assert choice["finish_reason"] == "cancelled"
    assert choice["message"]["content"].strip()


def find_question_traces(restarted: RestartedApp, chat: ChatPage, question: str) -> list[Trace]:
    """Return the traces of a question in the visitor's chats."""
    traces = find_traces(restarted.server.home, chat.chat_ids())
    return [trace for trace in traces if trace.info.request_preview == question]
