"""Thumbs and comments on answers are stored as MLflow feedback."""

from playwright.sync_api import expect

from tests.e2e.conftest import App, OpenPage
from tests.support.app_server import wait_until

FRANCE, SPAIN = "What is the capital of France?", "And what is the capital of Spain?"


def test_a_comment_being_typed_is_kept_when_another_answer_is_rated(app: App, open_page: OpenPage) -> None:
    chat = open_page()
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
    expect(chat.action("good").nth(1)).to_have_attribute("aria-pressed", "true")

    def stored() -> set[tuple[str | None, object, str | None]]:
        return {
            (trace.info.request_preview, given.feedback.value, given.rationale)
            for trace in app.traces(2, chat)
            for given in trace.info.assessments
            if given.feedback
        }

    wait_until(lambda: stored() == {(FRANCE, False, "Too long."), (SPAIN, True, "Right.")})
