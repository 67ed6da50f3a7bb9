"""The browser of the end-to-end tests: Chromium as installed, else installed now. `python -m tests.support.browser` sees to it."""

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
]

_NAMES = ["chromium", "chromium-browser", "google-chrome", "chrome"]
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
    if found := find():
        return found
    attempts = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and os.geteuid() == 0:
        attempts = [["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", "chromium"], *attempts]
    for command in attempts:
        print("+", *command, flush=True)
        subprocess.run(command, check=False)
        if found := find():
            return found
    sys.exit(_CURE)


if __name__ == "__main__":
    print(ensure())
