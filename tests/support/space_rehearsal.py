"""Rehearse a Hugging Face Space: install the last commit as its builder does, and start it as its host does.

Run by `make space-rehearsal`; needs the network. The code is read-only, and the app runs on two cores and, if this program runs
as root, as another user. Prints the time to build, to the first page and to the first answer; exits with 1 if the app logged an
error. With --zero-gpu, it rehearses a ZeroGPU Space with a stand-in host: the pipeline answers as well, on a simulated GPU.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import yaml  # type: ignore[import-untyped]
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import sync_playwright

from phi3_ui.accounts.gpu_quota import TOKEN_HEADER
from phi3_ui.paths import ROOT
from tests.support import browser as chromium
from tests.support.app_server import find_free_port, is_reachable, wait_until
from tests.support.chat_page import ChatPage
from tests.support.zero_gpu_api import DeviceApi, serve_device_api

SPACE = {
    "SYSTEM": "spaces",
    "SPACE_ID": "someone/phi3-chat",
    "SPACE_HOST": "someone-phi3-chat.hf.space",
    "GRADIO_SERVER_NAME": "0.0.0.0",  # as a Space does
}
_USER, _CORES = 1000, 2
_PIPELINE, _VISITOR = "smollm2-135m-pipeline", "e30.e30.visitor"
_QUESTION = "What is the capital of France?"
_PAGE_SECONDS = 600.0  # timeout of the first page, generous for slow disks


def main() -> None:
    """Build, start, chat, and report."""
    front = read_front_matter()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", nargs="?", default=f"python{front['python_version']}")
    parser.add_argument("--zero-gpu", action="store_true")
    options = parser.parse_args()
    python: str = options.python
    host: AbstractContextManager[DeviceApi | None]
    host = serve_device_api() if options.zero_gpu else contextlib.nullcontext()
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
            with host as device_api:
                chat(folder, code, log, device_api)
        except PermissionError as error:
            sys.exit(f"User {_USER} may not run {python} ({error}). Name one outside root's home with SPACE_PYTHON.")
        except BrowserError as error:
            sys.exit(f"{error}\nThe app's log:\n{log.read_text(encoding='utf-8')}")
        finally:
            subprocess.run(["chmod", "-R", "u+w", str(code)], check=True)
        if "Traceback" in (text := log.read_text(encoding="utf-8")):
            sys.exit(text)


def read_front_matter() -> dict[str, Any]:
    """Return the Space's configuration from the front matter of README.md."""
    _, front, _ = (ROOT / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return dict(yaml.safe_load(front))


def build(venv: Path, python: str, code: Path, sdk_version: str) -> None:
    """Install what the builder of a Space installs, in a single pip call."""
    subprocess.run([python, "-m", "venv", str(venv)], check=True)
    added = [f"gradio[oauth,mcp]=={sdk_version}", "uvicorn>=0.14.0", "websockets>=10.4", "spaces"]
    install = [str(venv / "bin" / "pip"), "install", "--quiet", "-r", str(code / "requirements.txt"), *added]
    subprocess.run(install, check=True)


def chat(folder: Path, code: Path, log: Path, device_api: DeviceApi | None) -> None:
    """Start the app with an empty home, and ask its first model in a browser, then the pipeline on a lent GPU."""
    home, port = folder / "home", find_free_port()
    home.mkdir()
    inherited = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name == "LANG"}
    path = f"{folder / 'venv' / 'bin'}:/usr/bin:/bin"
    variables = {**inherited, **SPACE, "PATH": path, "HOME": str(home), "GRADIO_SERVER_PORT": str(port)}
    if device_api:
        site = code / "tests" / "support" / "zero_gpu_site"
        variables |= {**device_api.environment, "PYTHONPATH": str(site)}
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
            page.set_extra_http_headers({TOKEN_HEADER: _VISITOR})
            page.goto(url)
            chat_page = ChatPage(page).wait_until_ready()
            answer = chat_page.answer(_QUESTION)
            report("start to first answer", started)
            print(answer)
            if device_api:
                wait_until(lambda: "log_pipeline took" in log.read_text(encoding="utf-8"), _PAGE_SECONDS)
                ask_on_gpu(chat_page, device_api)
    finally:
        process.terminate()
        process.wait(timeout=60)


def ask_on_gpu(chat_page: ChatPage, device_api: DeviceApi) -> None:
    """Ask the pipeline a question. Exit unless the app requested a GPU from the host on the visitor's quota."""
    chat_page.refresh_models()
    chat_page.pick(_PIPELINE)
    chat_page.set_setting("Max tokens", 16)
    started = time.monotonic()
    print(chat_page.answer(_QUESTION))
    report("answer on a lent GPU", started)
    tokens = [fields.get("token") for fields in device_api.find_calls("/schedule")]
    if tokens != [_VISITOR] or not device_api.find_calls("/startup-report") or chat_page.errors.count():
        sys.exit(f"Unexpected calls to the host: {device_api.calls}")


def report(name: str, started: float) -> None:
    """Print the time since `started`."""
    print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
