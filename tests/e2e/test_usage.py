"""Tests for the usage tab, the view of all usage, and replays, at desktop and phone widths."""

import re

from playwright.sync_api import Locator, ViewportSize, expect

from phi3_ui.testing import Reply
from tests.e2e.conftest import App, OpenPage
from tests.support.chat_page import LOAD, ChatPage

PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1440, "height": 844}
FRANCE, SPAIN = "What is the capital of France?", "And of Spain?"
LIST = "Two towns:\n\n1. **Paris**\n2. Lyon"


def read_metrics(chat: ChatPage) -> dict[str, str]:
    """Return the metrics in the usage tab, by name."""
    names, values = (chat.usage.locator(f"dl {tag}").all_text_contents() for tag in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def is_covered(part: Locator) -> bool:
    """Return whether a view hides this part of the chat from sight, keyboard and screen readers."""
    return bool(part.evaluate("(element) => getComputedStyle(element).visibility === 'hidden'"))


def has_horizontal_overflow(view: Locator) -> bool:
    return bool(
        view.evaluate(
            "(view) => document.documentElement.scrollWidth > innerWidth || view.scrollWidth > view.clientWidth"
        )
    )


def test_usage_is_shown_for_the_answer_the_chat_and_all_chats(app: App, open_page: OpenPage) -> None:
    app.model.enqueue(Reply("Paris.", usage=(37, 8)), Reply("Madrid.", usage=(65, 76)))
    chat = open_page(viewport=PHONE)
    chat.answer(FRANCE)
    chat.answer(SPAIN)
    expect(chat.usage.locator("em").first).to_have_text("2 answers")
    metrics = read_metrics(chat)
    assert (metrics["tokens"], metrics["Completion"], metrics["Answers"]) == ("141", "76", "2")
    assert (metrics["Prompt tokens"], metrics["Completion tokens"]) == ("102", "84")
    assert re.fullmatch(r"[\d,]+ of 8,192", metrics["Context used"])
    assert chat.usage_rows()["Total tokens"] == ["141", "186"]
    assert chat.usage.locator(".phi3-speeds li").count() == 2

    chat.page.locator('#phi3-header [data-panel="right"]').click()
    chat.usage.get_by_text("Details").click()
    expect(chat.usage.get_by_role("row", name="Finish reason")).to_be_visible()
    chat.usage.get_by_role("button", name="All my usage").click()
    check_all_usage(chat)
    chat.page.set_viewport_size(DESKTOP)
    expect(chat.usage.locator("details")).to_have_attribute("open", "")
    chat.usage.get_by_role("button", name="All my usage").click()
    view = check_all_usage(chat)
    expect(chat.usage.get_by_role("button", name="All my usage")).to_be_focused()
    chat.answer("And of Italy?")
    expect(chat.usage.locator("em").first).to_have_text("3 answers")
    expect(chat.usage.locator("details")).to_have_attribute("open", "")
    chat.usage.get_by_role("button", name="All my usage").click()
    expect(view.locator("tfoot td").first).to_have_text("3")
    chat.new_chat.click()
    expect(view).to_be_hidden()


def check_all_usage(chat: ChatPage) -> Locator:
    """Check the open view of all usage, close it and return it."""
    view = chat.page.locator("#phi3-usage-view")
    expect(view.get_by_role("heading", name="All my usage")).to_be_focused()
    assert is_covered(chat.message)
    assert not has_horizontal_overflow(view)
    for title in ("Tokens by day", "Time to first token, median", "Tokens/s, median", "Tokens by answer"):
        expect(view.get_by_role("figure", name=title)).to_be_visible()
    chart = view.get_by_role("figure", name="Tokens by answer")
    for text in ("Tokens", "Answer", "150"):
        expect(chart.locator(".plot").get_by_text(text, exact=True)).to_be_visible()
    expect(chart.locator("tbody tr").last.locator("td")).to_have_text(["0", "65", "76"])
    expect(view.locator(".measures i")).to_have_count(0)  # there is nothing to compare a single model with
    charts = [view.get_by_role("figure", name=title) for title in ("Tokens by day", "Tokens/s by answer")]
    bars = [bar for chart in charts for bar in chart.locator(".bar i").all()] + chat.usage.locator(
        ".phi3-speeds i"
    ).all()
    colors = {bar.evaluate("(bar) => getComputedStyle(bar).backgroundColor") for bar in bars}
    assert len(colors) == 1, "one engine has several colours"
    expect(view.locator("tfoot")).to_have_text("Total210284")

    chat.page.keyboard.press("Escape")
    expect(view).to_be_hidden()
    assert not is_covered(chat.message)
    return view


def test_a_chat_is_replayed_on_another_model_side_by_side(app: App, open_page: OpenPage) -> None:
    app.model.enqueue(Reply(LIST), Reply("The capital is Madrid."))
    app.other.enqueue(Reply(LIST.replace("Lyon", "Nice")), Reply("It is Madrid."))
    chat = open_page()
    chat.answer(FRANCE)
    chat.answer(SPAIN)
    view = chat.open_replay()
    chat.page.set_viewport_size(PHONE)
    expect(view.get_by_role("heading", name=FRANCE).first).to_be_focused()
    expect(view.get_by_role("button", name="Stop")).to_be_hidden()
    expect(view.locator(".question")).to_have_text([FRANCE, SPAIN])
    assert app.other.requests == []
    view.locator("#phi3-replay-model input").click()
    chat.page.get_by_role("option", name="scripted-two").click()
    view.get_by_role("button", name="Start").click()
    expect(view).to_contain_text("The replay is saved as a separate chat.", timeout=LOAD)
    expect(view.get_by_role("button", name="Start")).to_be_visible()

    for size in (PHONE, DESKTOP):
        chat.page.set_viewport_size(size)
        check_both_sides(view)
        assert not has_horizontal_overflow(view)

    view.get_by_role("button", name="Close").click()
    expect(view).to_be_hidden()
    expect(chat.questions).to_have_text([FRANCE, SPAIN])
    expect(chat.chats).to_have_count(2)
    expect(chat.chats.first).to_have_text(re.compile("Replay with"))
    chat.chats.first.click()
    expect(chat.questions).to_have_text([FRANCE, SPAIN])
    expect(chat.answers.last).to_have_text("It is Madrid.")
    expect(chat.captions.first).to_contain_text("scripted-two")


def check_both_sides(view: Locator) -> None:
    """Check the answers of a finished replay, with their differences and without."""
    sides = view.locator(".side")
    expect(sides.nth(0).locator("ol li strong")).to_have_text("Paris")
    expect(sides.nth(1).locator("ol li").last).to_have_text("Nice")
    expect(sides.nth(1).locator(".which")).to_contain_text("scripted-two")
    expect(view.locator("del, ins")).to_have_count(0)
    toggle = view.get_by_role("button", name="Show differences")
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    expect(sides.nth(0).locator("del")).to_have_text(" Lyon")
    expect(sides.nth(1).locator("ins")).to_have_text(" Nice")
    toggle.click()
    expect(view.locator("del, ins")).to_have_count(0)
    expect(view.get_by_role("row", name="Answers")).to_contain_text("22")
    view.locator("tr").last.scroll_into_view_if_needed()
    expect(view.get_by_role("heading", name=f"Replay of “{FRANCE}”")).to_be_in_viewport()
    expect(toggle).to_be_in_viewport()
