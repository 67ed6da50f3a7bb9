"""Thumbs and comments on answers are stored as MLflow feedback."""

from playwright.sync_api import expect

from tests.e2e.conftest import App
from tests.support.app_server import wait_for_traces, wait_until
from tests.support.chat_page import ChatPage

FRANCE, SPAIN = "What is the capital of France?", "And what is the capital of Spain?"


def test_a_comment_being_typed_is_kept_when_another_answer_is_rated(app: App, chat: ChatPage) -> None:
    chat.answer(FRANCE)
    chat.answer(SPAIN)
    chat.press("bad", 0)
    chat.comment.fill("Too long.")
    chat.press("good", 1)
    expect(chat.comment).to_have_value("")
    chat.comment.fill("Right.")
    chat.start_new_chat()
    expect(chat.page.locator("#phi3-comment")).to_be_hidden()
    chat.chats.first.click()
    expect(chat.action_buttons("good").nth(1)).to_have_attribute("aria-pressed", "true")

    chat_id = chat.chats.first.get_attribute("value") or ""

    def read_feedback() -> set[tuple[str | None, object, str | None]]:
        return {
            (trace.info.request_preview, assessment.feedback.value, assessment.rationale)
            for trace in wait_for_traces(app.server.home, {chat_id}, 2)
            for assessment in trace.info.assessments
            if assessment.feedback
        }

    wait_until(lambda: read_feedback() == {(FRANCE, False, "Too long."), (SPAIN, True, "Right.")})
