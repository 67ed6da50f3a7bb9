"""The screenshot of the README, taken from the app as it is: `make screenshot`."""

from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from phi3_ui.paths import ROOT
from phi3_ui.settings import Settings
from tests.e2e.conftest import serve
from tests.support import browser as chromium
from tests.support.chat_page import ChatPage

TARGET = ROOT / "docs" / "screenshot.png"


def main() -> None:
    TARGET.parent.mkdir(exist_ok=True)
    with (
        TemporaryDirectory() as temporary,
        serve(Settings.read().home, Path(temporary) / "app.log") as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium.ensure(), args=chromium.FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(server.url)
        chat = ChatPage(page).ready().pick("Pipeline")
        chat.setting("Temperature", 0)
        chat.setting("Max tokens", 100)
        chat.answer("What is the capital of France?")
        chat.pick("ONNX")
        chat.answer("Write a Python function that reverses a list.")
        page.locator("#phi3-settings").get_by_role("button", name="Settings").click()
        page.wait_for_timeout(500)
        page.screenshot(path=TARGET)
        browser.close()


if __name__ == "__main__":
    main()
