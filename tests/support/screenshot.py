"""Takes the README's screenshot from the running app: `make screenshot`."""

from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from phi3_ui.paths import ROOT
from phi3_ui.settings import Settings
from tests.support import browser as chromium
from tests.support.app_server import serve
from tests.support.chat_page import ChatPage

TARGET = ROOT / "docs" / "screenshot.png"


def main() -> None:
    """Ask both demo models and write docs/screenshot.png."""
    TARGET.parent.mkdir(exist_ok=True)
    with (
        TemporaryDirectory() as temporary,
        serve(Settings.read().home, Path(temporary) / "app.log") as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium.ensure(), args=chromium.FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(server.url)
        chat = ChatPage(page).wait_until_ready().pick("smollm2-135m-pipeline")
        chat.setting("Temperature", 0)
        chat.setting("Max tokens", 100)
        chat.answer("What is the capital of France?")
        chat.pick("smollm2-135m-onnx")
        chat.answer("Write a Python function that reverses a list.")
        chat.show_tab("usage")
        page.wait_for_function("document.getAnimations().every((animation) => animation.playState !== 'running')")
        page.screenshot(path=TARGET)
        browser.close()


if __name__ == "__main__":
    main()
