"""Take the README's screenshots of the running app: light, dark and on a phone (`make screenshot`)."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, ViewportSize, sync_playwright

from phi3_ui.paths import ROOT
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from phi3_ui.store.registry.catalogue import Catalogue
from tests.support import browser as chromium
from tests.support.app_server import serve
from tests.support.chat_page import ChatPage

FOLDER = ROOT / "docs"
DESKTOP: ViewportSize = {"width": 1440, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}


def main() -> None:
    """Ask both demo models, and write docs/screenshot.png, screenshot-dark.png and screenshot-phone.png."""
    settings = Settings.read()
    setup = FirstRun(settings, Catalogue(settings.tracking_uri))
    setup.start()
    if error := setup.wait().error:  # wait for both models; the page is usable earlier
        sys.exit(str(error))
    with (
        TemporaryDirectory() as temporary,
        serve(settings.home, Path(temporary) / "app.log") as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium.ensure(), args=chromium.FLAGS)
        _take(browser, server.url, "screenshot", DESKTOP)
        _take(browser, server.url, "screenshot-dark", DESKTOP, color_scheme="dark")
        _take(browser, server.url, "screenshot-phone", PHONE)
        browser.close()


def _take(browser: Browser, url: str, name: str, viewport: ViewportSize, color_scheme: str = "light") -> None:
    page = browser.new_page(viewport=viewport, color_scheme=color_scheme)  # type: ignore[arg-type]  # a literal
    page.goto(url)
    chat = ChatPage(page).wait_until_ready().pick("smollm2-135m-pipeline")
    chat.set_setting("Temperature", 0)
    chat.set_setting("Max tokens", 100)
    page.keyboard.press("Escape")  # closes the drawer on a phone
    chat.answer("What is the capital of France?")
    chat.pick("smollm2-135m-onnx")
    chat.answer("Write a Python function that reverses a list.")
    if viewport is DESKTOP:
        chat.show_tab("usage")
    page.mouse.move(0, 0)
    page.wait_for_function("document.getAnimations().every((animation) => animation.playState !== 'running')")
    page.screenshot(path=FOLDER / f"{name}.png")
    page.close()


if __name__ == "__main__":
    main()
