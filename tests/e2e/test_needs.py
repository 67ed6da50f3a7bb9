"""Accessibility that axe does not check: the keyboard, a magnified page, reduced motion, forced colours."""

from playwright.sync_api import Locator, Page, ViewportSize, expect

from tests.e2e.conftest import App, OpenPage
from tests.support.chat_page import ChatPage

DESKTOP: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
MAGNIFIED: ViewportSize = {"width": 720, "height": 450}
"""The viewport of a desktop window at 200 %."""
NARROWEST: ViewportSize = {"width": 320, "height": 480}


def go_to_start(page: Page) -> None:
    """Move the focus to where it is on a newly opened page."""
    page.evaluate("document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')")


def style(element: Locator, name: str, part: str | None = None) -> str:
    """Return a computed property of an element or of a pseudo-element such as "::before"."""
    value = element.evaluate("(element, [name, part]) => getComputedStyle(element, part)[name]", [name, part])
    assert isinstance(value, str)
    return value


def test_the_keyboard_and_a_magnifier_reach_everything(app: App, open_page: OpenPage) -> None:
    chat = open_page(viewport=DESKTOP)
    page = chat.page
    chat.answer("Hello")
    for viewport in (DESKTOP, PHONE):
        page.set_viewport_size(viewport)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        expect(page.get_by_role("main")).to_have_count(1)
        go_to_start(page)
        page.keyboard.press("Tab")
        expect(page.locator(".phi3-skip")).to_be_focused()
        expect(page.locator(".phi3-skip")).to_have_text("Skip to the message box")
        page.keyboard.press("Enter")
        expect(chat.message).to_be_focused()

    for viewport in (MAGNIFIED, NARROWEST):
        page.set_viewport_size(viewport)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        for part in (chat.message, chat.send, chat.model):
            expect(part).to_be_in_viewport(ratio=1)
    chat.open_add_model()
    for end in (chat.adding.get_by_role("button", name="Close"), page.locator("#phi3-add-go")):
        end.scroll_into_view_if_needed()
        expect(end).to_be_in_viewport(ratio=1)
    page.keyboard.press("Escape")

    page.set_viewport_size(DESKTOP)
    expect(page.get_by_role("navigation", name="Conversations")).to_be_visible()
    expect(page.get_by_role("complementary", name="Usage, model and settings")).to_be_visible()
    chat.usage.get_by_role("button", name="All my usage").click()
    view = page.locator("#phi3-usage-view h2")
    expect(view).to_be_focused()
    page.locator(".phi3-skip").focus()
    page.keyboard.press("Enter")
    expect(view).to_be_focused()


def test_reduced_motion_and_forced_colours_hide_nothing(app: App, open_page: OpenPage) -> None:
    chat = open_page(viewport=DESKTOP)
    page = chat.page
    chat.answer("Hello")
    chat.start_new_chat()
    chat.answer("Hello again")
    chat.press("good")
    expect(chat.action("good")).to_have_attribute("aria-pressed", "true")

    # As while it loads a model.
    chat.model.evaluate("(button) => button.dataset.state = 'loading'")
    moving = "document.getAnimations().filter(({ playState }) => playState === 'running').length"
    assert page.evaluate(moving) > 0
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moving) == 0

    page.emulate_media(forced_colors="active")
    expect_a_focus_ring_at_every_stop(chat)
    assert style(chat.send, "borderStyle") == "solid"
    assert style(chat.send, "backgroundColor", "::before") != style(chat.send, "backgroundColor")
    chosen = page.locator("#phi3-chats .phi3-row:has([aria-current])")
    other = page.locator("#phi3-chats .phi3-row:not(:has([aria-current]))")
    assert style(chosen, "borderLeftWidth") != style(other, "borderLeftWidth")
    tabs = page.get_by_role("tab")
    assert style(tabs.nth(0), "borderBottomColor") != style(tabs.nth(1), "borderBottomColor")
    assert style(chat.action("good"), "borderLeftWidth") != style(chat.action("bad"), "borderLeftWidth")


def expect_a_focus_ring_at_every_stop(chat: ChatPage) -> None:
    """Go through the page with Tab."""
    go_to_start(chat.page)
    while True:
        chat.page.keyboard.press("Tab")
        name, ring = chat.page.evaluate(
            """() => {
              const { activeElement: element } = document;
              const { outlineStyle, outlineWidth } = getComputedStyle(element);
              return [element === document.body ? "" : element.outerHTML, outlineStyle !== "none" && outlineWidth !== "0px"];
            }"""
        )
        if not name:
            return
        assert ring, f"no focus ring: {name[:200]}"
