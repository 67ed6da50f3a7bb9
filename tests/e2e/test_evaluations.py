"""Evaluations: from uploading a prompt set to comparing two models' answers side by side."""

import re

from playwright.sync_api import Page, expect

from phi3_ui.testing import Reply
from tests.e2e.conftest import App, OpenPage
from tests.support.accessibility import find_violations
from tests.support.chat_page import LOAD

CSV = b"prompt,expected_response\nWhat is the capital of Spain?,Madrid\n"


def expect_to_be_accessible(page: Page) -> None:
    """Check the page at both widths, ending with the desktop's."""
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 844})
        assert find_violations(page) == []


def test_models_are_evaluated_on_an_uploaded_prompt_set(app: App, open_page: OpenPage) -> None:
    app.model.enqueue(Reply("Madrid"))
    app.other.enqueue(Reply("It is Rome"))
    chat = open_page(viewport={"width": 390, "height": 844})
    page, view = chat.page, chat.page.locator("#phi3-evaluations")
    page.get_by_role("button", name="Compare", exact=True).click()
    chat.compare.get_by_role("button", name="Ratings").click()
    page.locator("#phi3-ratings").get_by_role("button", name="Evaluations").click()
    expect(view.get_by_role("heading", name="Evaluations").first).to_be_focused()
    if not view.get_by_label("Name").is_visible():
        view.locator("summary").click()
    view.get_by_label("Name").fill("capitals")
    view.get_by_label("From a file").set_input_files({"name": "q.csv", "mimeType": "text/csv", "buffer": CSV})
    expect_to_be_accessible(page)
    view.locator("form").get_by_role("button", name="Create a prompt set").click()
    expect(view.locator(".record")).to_have_count(1)
    expect(view.locator(".record textarea")).to_have_value("Madrid")
    expect_to_be_accessible(page)

    view.get_by_role("button", name="Evaluate", exact=True).click()
    for name in ("scripted-one", "scripted-two"):
        view.get_by_role("checkbox", name=re.compile(name)).check()
    view.get_by_label("Equals the expected answer").check()
    expect_to_be_accessible(page)
    view.get_by_role("button", name="Start").click()
    expect(view.get_by_role("heading", name="Evaluation of capitals/1")).to_be_focused()
    expect(view.locator(".answers .text")).to_have_text(["Madrid", "It is Rome"], timeout=LOAD)
    expect(view.locator(".answers mark")).to_have_text(["Madrid", "It is Rome"])
    expect(view.locator(".answers .phi3-chip")).to_have_text(["exact_match 1.00", "exact_match 0.00"])
    expect(view.get_by_role("row", name="exact_match")).to_contain_text("1.00 to 1.00")
    expect_to_be_accessible(page)
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 844})
        assert not view.locator(".phi3-view-body").evaluate("(body) => body.scrollWidth > body.clientWidth")
    view.get_by_label("Show").select_option("Failed answers")
    expect(view.locator(".row")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(view).to_be_hidden()
    expect(page.locator("#phi3-ratings")).to_be_visible()
