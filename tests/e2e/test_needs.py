"""Tests for accessibility that axe does not check: the keyboard, page zoom, reduced motion and forced colours."""

from playwright.sync_api import Locator, Page, ViewportSize, expect

from tests.e2e.conftest import App, OpenPage
from tests.support.chat_page import ChatPage

DESKTOP: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
ZOOMED: ViewportSize = {"width": 720, "height": 450}
"""The viewport of a desktop window at 200 % zoom."""
NARROWEST: ViewportSize = {"width": 320, "height": 480}


def reset_focus(page: Page) -> None:
    """Move the focus to its initial position on a new page."""
    page.evaluate("document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')")


def get_style(element: Locator, name: str, part: str | None = None) -> str:
    """Return a computed style property of an element, or of its pseudo-element such as "::before"."""
    value = element.evaluate("(element, [name, part]) => getComputedStyle(element, part)[name]", [name, part])
    assert isinstance(value, str)
    return value


def test_everything_is_reachable_by_keyboard_and_when_zoomed_in(app: App, open_page: OpenPage) -> None:
    chat = open_page(viewport=DESKTOP)
    page = chat.page
    chat.answer("Hello")
    for viewport in (DESKTOP, PHONE):
        page.set_viewport_size(viewport)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        expect(page.get_by_role("main")).to_have_count(1)
        reset_focus(page)
        page.keyboard.press("Tab")
        expect(page.locator(".phi3-skip")).to_be_focused()
        expect(page.locator(".phi3-skip")).to_have_text("Skip to the message box")
        page.keyboard.press("Enter")
        expect(chat.message).to_be_focused()

    for viewport in (ZOOMED, NARROWEST):
        page.set_viewport_size(viewport)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        for part in (chat.message, chat.send, chat.model):
            expect(part).to_be_in_viewport(ratio=1)
    chat.open_add_model()
    for element in (chat.add_dialog.get_by_role("button", name="Close"), page.locator("#phi3-add-go")):
        element.scroll_into_view_if_needed()
        expect(element).to_be_in_viewport(ratio=1)
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
    expect(chat.action_buttons("good")).to_have_attribute("aria-pressed", "true")

    # As while a model is loading.
    chat.model.evaluate("(button) => button.dataset.state = 'loading'")
    count_running_animations = "document.getAnimations().filter(({ playState }) => playState === 'running').length"
    assert page.evaluate(count_running_animations) > 0
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(count_running_animations) == 0

    page.emulate_media(forced_colors="active")
    expect_a_focus_ring_at_every_tab_stop(chat)
    assert get_style(chat.send, "borderStyle") == "solid"
    assert get_style(chat.send, "backgroundColor", "::before") != get_style(chat.send, "backgroundColor")
    chosen = page.locator("#phi3-chats .phi3-row:has([aria-current])")
    other = page.locator("#phi3-chats .phi3-row:not(:has([aria-current]))")
    assert get_style(chosen, "borderLeftWidth") != get_style(other, "borderLeftWidth")
    tabs = page.get_by_role("tab")
    assert get_style(tabs.nth(0), "borderBottomColor") != get_style(tabs.nth(1), "borderBottomColor")
    assert get_style(chat.action_buttons("good"), "borderLeftWidth") != get_style(
        chat.action_buttons("bad"), "borderLeftWidth"
    )


def expect_a_focus_ring_at_every_tab_stop(chat: ChatPage) -> None:
    """Tab through the page, and check that each focused element has a focus ring."""
    reset_focus(chat.page)
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
