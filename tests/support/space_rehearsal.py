"""Rehearses a Hugging Face Space: installs the last commit as its builder does, and starts it as its host does.

`make space-rehearsal`, which needs the network. The code is read-only, the app runs on two cores and, if this program runs as
root, as another user. Prints how long the build, the page and the first answer took; exits with 1 if the app logged an error.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import yaml  # type: ignore[import-untyped]
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import sync_playwright

from phi3_ui.paths import ROOT
from tests.support import browser as chromium
from tests.support.app_server import find_free_port, is_reachable, wait_until
from tests.support.chat_page import ChatPage

SPACE = {
    "SYSTEM": "spaces",
    "SPACE_ID": "someone/phi3-chat",
    "SPACE_HOST": "someone-phi3-chat.hf.space",
    "GRADIO_SERVER_NAME": "0.0.0.0",  # as a Space does
}
_USER, _CORES = 1000, 2
_PAGE_SECONDS = 600.0  # until the first page, on a slow disk


def main() -> None:
    """Build, start, chat, and report."""
    front = read_front_matter()
    python = sys.argv[1] if len(sys.argv) > 1 else f"python{front['python_version']}"
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        code, log = folder / "app", folder / "app.log"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(code)], check=True)
        started = time.monotonic()
        build(folder / "venv", python, code, front["sdk_version"])
        report("build", started)
        subprocess.run(["chmod", "-R", "a-w", str(code)], check=True)
        try:
            chat(folder, code, log)
        except PermissionError as error:
            sys.exit(f"User {_USER} may not run {python} ({error}). Name one outside root's home with SPACE_PYTHON.")
        except BrowserError as error:
            sys.exit(f"{error}\nThe app's log:\n{log.read_text(encoding='utf-8')}")
        finally:
            subprocess.run(["chmod", "-R", "u+w", str(code)], check=True)
        if "Traceback" in (text := log.read_text(encoding="utf-8")):
            sys.exit(text)


def read_front_matter() -> dict[str, Any]:
    """What README.md tells the host of a Space."""
    _, front, _ = (ROOT / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return dict(yaml.safe_load(front))


def build(venv: Path, python: str, code: Path, sdk_version: str) -> None:
    """Install what the builder of a Space installs, all of it in one call of pip."""
    subprocess.run([python, "-m", "venv", str(venv)], check=True)
    added = [f"gradio[oauth,mcp]=={sdk_version}", "uvicorn>=0.14.0", "websockets>=10.4", "spaces"]
    install = [str(venv / "bin" / "pip"), "install", "--quiet", "-r", str(code / "requirements.txt"), *added]
    subprocess.run(install, check=True)


def chat(folder: Path, code: Path, log: Path) -> None:
    """Start the app with an empty home, and ask its first model a question in a browser."""
    home, port = folder / "home", find_free_port()
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name == "LANG"}
    path = f"{folder / 'venv' / 'bin'}:/usr/bin:/bin"
    variables = {**kept, **SPACE, "PATH": path, "HOME": str(home), "GRADIO_SERVER_PORT": str(port)}
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        os.chown(home, _USER, _USER)
        user = {"user": _USER, "group": _USER, "extra_groups": []}
    started = time.monotonic()
    with log.open("wb") as out:
        process = psutil.Popen(["python", "app.py"], cwd=code, env=variables, stdout=out, stderr=out, **user)
    process.cpu_affinity(list(range(_CORES)))
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: process.poll() is not None or is_reachable(url), _PAGE_SECONDS)
        if process.poll() is not None:
            sys.exit(log.read_text(encoding="utf-8"))
        report("start to page", started)
        with sync_playwright() as playwright:
            page = playwright.chromium.launch(executable_path=chromium.ensure(), args=chromium.FLAGS).new_page()
            page.goto(url)
            answer = ChatPage(page).wait_until_ready().answer("What is the capital of France?")
        report("start to first answer", started)
        print(answer)
    finally:
        process.terminate()
        process.wait(timeout=60)


def report(what: str, started: float) -> None:
    """Print how long something took."""
    print(f"{what}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
