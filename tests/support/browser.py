"""Find Chromium for the end-to-end tests, or install it. Run as `python -m tests.support.browser`.

The headless shell is preferred: it draws no window around the page, so opening a page takes a third less CPU time.
"""

import os
import shutil
import subprocess
import sys

# No sandbox: tests often run as root in a container. Most other flags keep Chromium from calling home.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# A test's page lives for seconds: the optimising compiler and parallel garbage collection do not pay off.
TEST_FLAGS = [*FLAGS, "--js-flags=--no-opt --single-threaded-gc"]

_SHELL = "chromium-headless-shell"
_NAMES = [_SHELL, "chromium", "chromium-browser", "google-chrome", "chrome"]  # in order of preference
_APT_OPTIONS = [
    "-q",
    "-o",
    "Acquire::Retries=0",
    "-o",
    "Acquire::http::Timeout=20",
]  # fail fast without a network: an installed Chromium is good enough
_NOT_FOUND = (
    "No Chromium was found, and none could be installed."
    " Install one (Debian: apt-get install chromium), then run again."
)


def find() -> str | None:
    """Return the path of a Chromium on PATH, or of the one that Playwright installed."""
    if path := next(filter(None, map(shutil.which, _NAMES)), None):
        return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        installed = playwright.chromium.executable_path
    return installed if os.path.exists(installed) else None


def ensure() -> str:
    """Return the path of a Chromium, installed with apt or Playwright if necessary; exit with advice if that fails."""
    return find() or _install()


def _install() -> str:
    """Install the headless shell, or Chromium itself if the shell is unavailable."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        _run("apt-get", "update", *_APT_OPTIONS)
        _run("apt-get", "install", "-y", *_APT_OPTIONS, _SHELL)
        if not find():  # not every distribution packages the shell
            _run("apt-get", "install", "-y", *_APT_OPTIONS, "chromium")
    if not find():
        _run(sys.executable, "-m", "playwright", "install", "chromium")
    return find() or sys.exit(_NOT_FOUND)


def _run(*command: str) -> None:
    print("+", *command, flush=True)
    subprocess.run(command, check=False)


if __name__ == "__main__":
    print(ensure() if shutil.which(_SHELL) else _install())
