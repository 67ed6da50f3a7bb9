"""A page shared by consecutive tests, each with a new chat: loading a page takes as long as four turns."""

from collections.abc import Callable

from playwright.sync_api import Error, Page

from tests.support.chat_page import SECONDS, ChatPage

_MAX_TESTS = 12  # limits the length of its chat list
_RESET = 20 * SECONDS
# Possible leftovers of a test: another view, a dialog, a notice, files or a draft, a changed setting, closed panels.
_IS_FRESH = """() => {
  const isSeen = (element) => element.checkVisibility({ visibilityProperty: true });
  const leftovers = "dialog, [role=dialog], .toast-body, .phi3-menu, .phi3-view, .phi3-files li, .phi3-rename, .phi3-error";
  const panels = document.querySelector("#phi3-shell").dataset;
  return document.querySelector("#phi3-message textarea").value === ""
    && ![...document.querySelectorAll(leftovers)].some(isSeen)
    && !document.querySelector("#phi3-settings [data-changed], #phi3-preset-button[data-changed]")
    && panels.left === "open docked" && panels.right === "open docked";
}"""


class ResidentPage:
    """Lends a page that looks freshly opened, except that its visitor has chats. Opens a new page if resetting the old one fails."""

    def __init__(self, open_page: Callable[[], ChatPage], model: str) -> None:
        self._open_page = open_page
        self._model = model
        self._chat: ChatPage | None = None
        self._tests = 0

    def lend(self) -> ChatPage:
        """Return the page, with an empty chat and the model selected and loaded."""
        if self._chat is None or self._tests >= _MAX_TESTS or not self._reset(self._chat):
            self.close()
            self._chat, self._tests = self._open_page(), 0
        self._tests += 1
        return self._chat

    def close(self) -> None:
        """Close the page and its browser context."""
        if self._chat:
            self._chat.page.context.close()
            self._chat = None

    def _reset(self, chat: ChatPage) -> bool:
        page: Page = chat.page
        if page.is_closed():
            return False
        page.set_default_timeout(_RESET)
        try:
            page.set_viewport_size({"width": 1400, "height": 900})
            page.emulate_media(color_scheme="null", reduced_motion="null", forced_colors="null")
            page.mouse.move(0, 0)
            chat.new_chat.click()
            chat.empty.wait_for()
            chat.message.fill("")
            if page.locator("#phi3-right").get_attribute("data-tab") != "usage":
                chat.show_tab("usage")
            if chat.status.locator(".phi3-model-name").inner_text() != self._model:
                chat.choose(self._model)
            chat.wait_until_loaded()
            return bool(page.evaluate(_IS_FRESH))
        except (Error, AssertionError):  # the test left the page in a state that cannot be reset
            return False
        finally:
            page.set_default_timeout(30 * SECONDS)
