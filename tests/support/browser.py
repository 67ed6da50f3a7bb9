"""The browser of the end-to-end tests: Chromium as installed, else installed now. `python -m tests.support.browser` sees to it.

Preferably its headless shell, which draws no window around the page: opening a page then takes a third less CPU time.
"""

import os
import shutil
import subprocess
import sys

# No sandbox: tests often run as root in a container. The rest keeps Chromium from calling home.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A test's page lives for seconds: too short for the optimising compiler and the collector's threads to pay.
    "--js-flags=--no-opt --single-threaded-gc",
]

_SHELL = "chromium-headless-shell"
_NAMES = [_SHELL, "chromium", "chromium-browser", "google-chrome", "chrome"]  # the best first
_APT = [
    "-q",
    "-o",
    "Acquire::Retries=0",
    "-o",
    "Acquire::http::Timeout=20",
]  # without a network, Chromium itself will do
_CURE = "No Chromium was found, and none could be installed. Install one (Debian: apt-get install chromium), then run again."


def find() -> str | None:
    """The path of a Chromium on PATH, or of the one that Playwright installed."""
    if found := next(filter(None, map(shutil.which, _NAMES)), None):
        return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if os.path.exists(path) else None


def ensure() -> str:
    """A Chromium, installed by the system's packages or by Playwright if need be. Exits with the cure if there is none."""
    return find() or _install()


def _install() -> str:
    """Install the headless shell, or Chromium itself if there is neither then."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        _run("apt-get", "update", *_APT)
        _run("apt-get", "install", "-y", *_APT, _SHELL)
        if not find():  # not every distribution has the shell
            _run("apt-get", "install", "-y", *_APT, "chromium")
    if not find():
        _run(sys.executable, "-m", "playwright", "install", "chromium")
    return find() or sys.exit(_CURE)


def _run(*command: str) -> None:
    print("+", *command, flush=True)
    subprocess.run(command, check=False)


if __name__ == "__main__":
    print(ensure() if shutil.which(_SHELL) else _install())
