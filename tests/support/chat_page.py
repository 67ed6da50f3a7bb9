"""The page as a person uses it."""

import re

from playwright.sync_api import Locator, Page, expect

SECONDS = 1000  # Playwright counts in milliseconds
LOAD, ANSWER = 120 * SECONDS, 120 * SECONDS


class ChatPage:
    def __init__(self, page: Page) -> None:
        self.page = page
        self.message = page.locator("#phi3-message textarea")
        self.send = page.locator("#phi3-send")
        self.stop = page.locator("#phi3-stop")
        self.answers = page.locator('#phi3-chat [data-testid="bot"]').filter(
            has_not=page.locator(".phi3-by, .phi3-wait")
        )
        self.questions = page.locator('#phi3-chat [data-testid="user"]')
        self.captions = page.locator(".phi3-by:not(.phi3-cut)")
        self.cut = page.locator(".phi3-cut")
        self.context = page.locator("#phi3-context")
        self.waiting = page.locator(".phi3-wait")
        self.errors = page.locator("#phi3-chat .phi3-error")
        self.usage = page.locator("#phi3-usage")
        self.card = page.locator("#phi3-card")
        self.status = page.locator("#phi3-status")
        self.chats = page.locator('#phi3-chats button[name="open"]')
        self.search = page.locator("#phi3-search textarea, #phi3-search input")
        self.warning = page.locator("#phi3-warning")
        self.adding = page.locator("#phi3-add")
        self.added = page.locator("#phi3-add-progress")
        self.new_chat = page.locator("#phi3-new")

    def ready(self) -> "ChatPage":
        expect(self.message).to_be_visible(timeout=LOAD)
        return self

    def pick(self, engine: str) -> "ChatPage":
        """Pick the model of an engine, "ONNX" or "Pipeline", and wait until it is loaded."""
        self.page.locator("#phi3-picker input").click()
        self.page.get_by_role("option", name=re.compile(f"· {engine} ·")).click()
        expect(self.card).to_contain_text({"ONNX": "onnx", "Pipeline": "pipeline"}[engine])
        expect(self.status.locator(".loaded")).to_be_visible(timeout=LOAD)
        return self

    def setting(self, label: str, value: object) -> None:
        """Set a slider or the system prompt."""
        settings = self.page.locator("#phi3-settings")
        if not settings.get_by_label("Temperature").first.is_visible():
            settings.get_by_role("button", name="Settings").click()
            expect(settings.get_by_label("Temperature").first).to_be_visible()
            # What has just been unfolded takes its first value once more when it is drawn.
            self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestIdleCallback(done)))")
        field = settings.get_by_label(label).first
        field.fill(str(value))
        field.press("Tab")
        expect(field).to_have_value(str(value))

    def ask(self, question: str) -> int:
        """Send a question; the number of captions there will be when it is answered."""
        expected = self.captions.count() + 1
        self.message.fill(question)
        self.message.press("Enter")
        expect(self.message).to_have_value("")
        return expected

    def answer(self, question: str) -> str:
        """Send a question and wait for the whole answer; its text."""
        expected = self.ask(question)
        self.wait_for_caption(expected)
        return self.answers.last.inner_text()

    def wait_for_caption(self, count: int) -> None:
        expect(self.captions).to_have_count(count, timeout=ANSWER)
        expect(self.send).to_be_visible()

    def wait_for_text(self) -> Locator:
        """The answer under way, once it has some words."""
        expect(self.answers.last).to_have_text(re.compile(r"\w+\W+\w+"), timeout=LOAD)
        return self.answers.last

    def act(self, name: str, at: int = -1) -> None:
        """Press a button of an answer, by default of the last one."""
        self.page.locator(f'#phi3-chat button.phi3-action[name="{name}"]').nth(at).click()

    def texts(self) -> list[str]:
        """Questions and answers, as they are shown."""
        return [*self.questions.all_inner_texts(), *self.answers.all_inner_texts()]

    def in_list(self, title: str, name: str) -> Locator:
        """A button of a chat in the list at the left."""
        row = self.page.locator("#phi3-chats .phi3-row").filter(has_text=title)
        row.hover()
        return row.locator(f'button[name="{name}"]')

    def usage_rows(self) -> dict[str, list[str]]:
        rows = self.usage.locator("tbody tr")
        return {row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in rows.all()}
