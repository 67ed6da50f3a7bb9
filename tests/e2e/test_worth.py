"""What a kept chat is worth: saved and imported, reproduced, counted, replayed on another model, found in MLflow."""

import json
import re
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import psutil
from playwright.sync_api import BrowserContext, expect

from phi3_ui.paths import ROOT
from tests.e2e.conftest import free_port, reachable
from tests.e2e.test_history import FRANCE, SPAIN, Place, person, place, visit  # noqa: F401  (fixtures)
from tests.support.chat_page import LOAD, ChatPage
from tests.support.env import environment

Come = Callable[[], BrowserContext]


def _save(chat: ChatPage, words: str, folder: Path) -> Path:
    button = chat.page.get_by_role("button", name=words)
    if not button.is_visible():
        chat.page.locator("#phi3-share").get_by_role("button", name="Save and import chats").click()
    with chat.page.expect_download() as download:
        button.click()
    file = folder / download.value.suggested_filename
    download.value.save_as(file)
    return file


def test_chats_are_saved_and_come_back_whole(place: Place, person: Come, tmp_path: Path) -> None:  # noqa: F811
    with place.serve() as server:
        chat = visit(person(), server)
        chat.answer(FRANCE)
        chat.act("bad")
        chat.act("retry")
        chat.wait_for_caption(1)
        expect(chat.page.locator(".phi3-versions")).to_have_text(re.compile("2/2"))
        texts = chat.texts()

        markdown = _save(chat, "This chat as Markdown", tmp_path).read_text(encoding="utf-8")
        saved = _save(chat, "This chat as JSON", tmp_path)
        archive = _save(chat, "All my chats", tmp_path)
        assert FRANCE in markdown
        content = json.loads(saved.read_text(encoding="utf-8"))
        assert [one["role"] for one in content["messages"]] == ["user", "assistant"]
        assert content["messages"][1]["usage"]["completion_tokens"] == 16
        with zipfile.ZipFile(archive) as packed:
            assert sorted(Path(name).suffix for name in packed.namelist()) == [".json", ".md"]

        other = visit(person(), server)
        other.page.locator("#phi3-share").get_by_role("button", name="Save and import chats").click()
        for count, file in enumerate((saved, archive), start=1):
            with other.page.expect_file_chooser() as chooser:
                other.page.locator("#phi3-import").click()
            chooser.value.set_files(file)
            expect(other.chats).to_have_count(count)
            expect(other.questions).to_have_text([FRANCE])
            assert other.texts() == texts
            other.act("show", 0)
            expect(other.page.locator('#phi3-chat button[name="bad"]')).to_have_text("✓ Bad")
            other.new_chat.click()
            expect(other.questions).to_have_count(0)
        broken = tmp_path / "broken.json"
        broken.write_text('{"messages": 3}', encoding="utf-8")
        with other.page.expect_file_chooser() as chooser:
            other.page.locator("#phi3-import").click()
        chooser.value.set_files(broken)
        expect(other.page.get_by_text("contains no readable chat")).to_be_visible()
    traces = place.traces()
    assert len(traces) == 6
    assert len({trace.info.trace_metadata["mlflow.trace.user"] for trace in traces}) == 2
    assert sum(len(trace.info.assessments) for trace in traces) == 3


def test_the_program_shown_gives_the_same_answer(place: Place, person: Come, tmp_path: Path) -> None:  # noqa: F811
    with place.serve() as server:
        chat = visit(person(), server)
        answer = chat.answer(FRANCE)
        chat.act("reproduce")
        code = chat.page.locator("#phi3-reproduce .cm-content")
        expect(code).to_contain_text("mlflow.pyfunc")
        program = code.inner_text()
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == answer


def test_a_chat_is_replayed_on_another_model_side_by_side(place: Place, person: Come) -> None:  # noqa: F811
    with place.serve() as server:
        chat = visit(person(), server)
        chat.answer(FRANCE)
        chat.answer(SPAIN)
        chat.page.locator("#phi3-picker input").click()
        chat.page.get_by_role("option", name=re.compile("· Pipeline ·")).click()
        chat.page.locator("#phi3-replay-ask").click()
        view = chat.page.locator("#phi3-replay")
        expect(view).to_contain_text("saved as a chat of its own.", timeout=2 * LOAD)
        expect(view).to_contain_text("onnx")
        expect(view).to_contain_text("pipeline")
        expect(view.locator("del, ins").first).to_be_attached()
        chat.page.get_by_role("button", name="Back to the chat").click()
        expect(view).to_be_hidden()
        expect(chat.questions).to_have_text([FRANCE, SPAIN])
        expect(chat.chats).to_have_count(2)
        chat.chats.first.click()
        expect(chat.chats.first).to_have_text(re.compile("Replay with"))
        expect(chat.questions).to_have_text([FRANCE, SPAIN])
        expect(chat.captions.first).to_contain_text("Pipeline")
    assert len(place.traces()) == 4


def test_usage_over_time_is_drawn_from_the_traces(place: Place, person: Come) -> None:  # noqa: F811
    with place.serve() as server:
        chat = visit(person(), server)
        chat.answer(FRANCE)
        panel = chat.page.locator("#phi3-over-time")
        panel.get_by_role("button", name="Usage over time").click()
        expect(panel.locator("table")).to_contain_text("smollm2-135m-onnx")
        expect(panel.locator(".vega-embed svg, .vega-embed canvas").first).to_be_visible()
        expect(panel.locator("tr", has_text="All").locator("td").first).to_have_text("1")
        chat.answer(SPAIN)
        expect(panel.locator("tr", has_text="All").locator("td").first).to_have_text("2")


def test_mlflows_ui_is_linked_while_it_runs(place: Place, person: Come) -> None:  # noqa: F811
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with place.serve(PHI3_UI_MLFLOW_URL=url) as server:
        chat = visit(person(), server)
        chat.answer(FRANCE)
        links = chat.page.locator(f'a[href^="{url}"]')
        expect(links).to_have_count(0)
        own = environment(place.home, PHI3_UI_MLFLOW_URL=url)
        with (place.home / "mlflow-ui.log").open("wb") as log:
            mlflow = psutil.Popen(
                [sys.executable, "-m", "phi3_ui", "mlflow-ui"], cwd=ROOT, env=own, stdout=log, stderr=log
            )
        try:
            expect(chat.page.locator(f'#phi3-chat a[href^="{url}"]')).to_have_count(1, timeout=LOAD)
            assert reachable(url)
            expect(chat.card.locator(f'a[href^="{url}"]').first).to_be_visible()
            with chat.page.context.expect_page() as opened:
                chat.usage.locator("a", has_text="This chat in MLflow").click()
            expect(opened.value.get_by_text(FRANCE).first).to_be_visible(timeout=LOAD)
        finally:
            for process in (*mlflow.children(recursive=True), mlflow):
                process.kill()
            mlflow.wait()
        expect(links).to_have_count(0, timeout=LOAD)


def test_a_locked_store_stops_no_chat_and_the_page_says_so(place: Place, person: Come) -> None:  # noqa: F811
    with place.serve() as server:
        chat = visit(person(), server)
        chat.answer(FRANCE)
        locked = sqlite3.connect(place.home / "mlflow.db", isolation_level=None)
        locked.execute("BEGIN EXCLUSIVE")
        try:
            chat.answer(SPAIN)
            expect(chat.warning).to_contain_text("does not accept this chat at the moment", timeout=LOAD)
            expect(chat.chats).to_have_count(1)
        finally:
            locked.rollback()
            locked.close()
        expect(chat.warning).to_be_empty(timeout=LOAD)
    assert {trace.info.request_preview for trace in place.traces()} == {FRANCE, SPAIN}
