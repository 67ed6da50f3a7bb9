"""Smoke tests of the demo's real engines, ONNX Runtime GenAI and the Transformers pipeline, through the page."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, expect

from tests.conftest import Demo
from tests.e2e.conftest import DESKTOP, OpenPage, open_chat
from tests.support.app_server import Server, serve, wait_until
from tests.support.chat_page import ChatPage
from tests.support.idle import wait_until_idle

ONNX, PIPELINE = "smollm2-135m-onnx", "smollm2-135m-pipeline"
LONG_STORY = "Write a very long story about the sea, with many chapters."


@pytest.mark.parametrize(
    ("model", "engine", "tokens"),
    [(ONNX, "ONNX", 200), (PIPELINE, "Pipeline", 40)],  # each about two seconds
)
def test_answer_streams_with_exact_usage_and_prefix_reuse(
    open_demo: OpenPage, model: str, engine: str, tokens: int
) -> None:
    chat = open_demo().pick(model)
    chat.set_setting("Temperature", 0)
    chat.set_setting("Max tokens", tokens)
    expected = chat.ask("Write a long story about the sea.")
    partial_text = chat.wait_for_text().inner_text()
    expect(chat.stop).to_be_visible()
    chat.wait_for_caption(expected)
    full_text = chat.answers.last.inner_text()
    assert len(full_text) > len(partial_text)
    assert full_text.startswith(partial_text.rstrip())
    caption = chat.captions.last.text_content() or ""
    assert caption.startswith(f"{model} · ")
    (prompt, completion) = re.findall(r"(\d+) in · (\d+) out", caption)[0]
    assert completion == str(tokens)
    assert "cut off at max tokens" in caption
    expect(chat.usage).to_contain_text("cut off at max tokens")
    rows = chat.usage_rows()
    assert rows["Prompt tokens"] == [prompt, prompt]
    assert rows["Completion tokens"] == [str(tokens), str(tokens)]
    assert rows["Total tokens"][0] == str(int(prompt) + tokens)
    assert re.fullmatch(r"\d+\.\d\d s", rows["Time to first token"][0])
    assert float(rows["Tokens/s"][0]) > 0

    chat.answer("And now?")
    expect(chat.usage.locator("tbody tr").nth(2).locator("td").nth(1)).not_to_have_text(str(tokens))
    rows = chat.usage_rows()
    prompt_tokens, completion_tokens = int(rows["Prompt tokens"][0]), int(rows["Completion tokens"][0])
    assert int(rows["Prompt tokens"][1]) == prompt_tokens + int(prompt)
    assert int(rows["Cached prompt tokens"][0]) >= int(prompt) > 0, "the first turn comes from the KV cache"
    expect(chat.context).to_have_text(f"{prompt_tokens + completion_tokens:,} / 8,192")
    expect(chat.page.locator("#phi3-cache")).to_contain_text("Prompt cache")


def test_menu_and_card_show_both_engines_and_their_runs(open_demo: OpenPage) -> None:
    chat = open_demo()
    assert chat.model_names() == [PIPELINE, "@champion", ONNX, "@champion"]  # newest first, each with its alias
    alias_facts = "Follows the alias; now version 1"
    facts = chat.models.locator(".phi3-menu-facts").all_text_contents()
    assert [line.split(" · ")[0] for line in facts] == ["Pipeline", alias_facts, "ONNX", alias_facts]
    chat.page.keyboard.press("Escape")
    chat.pick(PIPELINE)
    for text in ["models:/m-", "transformers", "llm/v1/chat", "8,192 tokens", "load_seconds", "FINISHED", "messages"]:
        expect(chat.card).to_contain_text(text)
    chat.pick(ONNX)
    for text in ["pyfunc", "prompt", "int8", "'max_tokens': long (default: 512)", "version 1 @champion"]:
        expect(chat.card).to_contain_text(text)


def test_an_answer_is_reproduced_and_switching_the_engine_keeps_the_conversation(
    open_demo: OpenPage, tmp_path: Path
) -> None:
    chat = open_demo().pick(ONNX)
    chat.set_setting("Temperature", 0)
    chat.set_setting("Max tokens", 16)
    answer = chat.answer("What is the capital of Germany?")
    chat.press("reproduce")
    code = chat.page.locator("#phi3-reproduce code")
    expect(code).to_contain_text("mlflow.pyfunc")
    completed = subprocess.run([sys.executable, "-c", code.inner_text()], cwd=tmp_path, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.strip() == answer
    chat.page.keyboard.press("Escape")

    chat.pick(PIPELINE)
    expect(chat.captions).to_have_count(1)
    chat.answer("And of Spain?")
    expect(chat.page.locator("#phi3-chat .phi3-badge")).to_have_text(["ONNX", "TF"])
    wait_until(lambda: int(chat.usage_rows()["Prompt tokens"][0]) > 50)  # the prompt includes the first turn


def test_stop_and_closing_the_tab_end_computation_and_stop_keeps_the_text(
    open_demo: OpenPage, demo_server: Server
) -> None:
    chat = open_demo()
    for model in (PIPELINE, ONNX):
        chat.start_new_chat()
        chat.pick(model)
        expected = start_long_answer(chat)
        chat.stop.click()
        chat.wait_for_caption(expected)
        assert "stopped" in chat.captions.last.inner_text()
        assert chat.answers.last.inner_text()
        wait_until_idle(demo_server.model_processes)
    start_long_answer(chat)
    chat.page.close()
    wait_until_idle(demo_server.model_processes)


def test_the_pipeline_queue_shows_how_many_requests_are_ahead(open_demo: OpenPage) -> None:
    first, second = open_demo().pick(PIPELINE), open_demo().pick(PIPELINE)
    second.set_setting("Max tokens", 8)
    first_expected = start_long_answer(first)
    second_expected = second.ask("Hi")
    expect(second.waiting).to_have_text("Queued: 1 request ahead")
    first.stop.click()
    first.wait_for_caption(first_expected)
    second.wait_for_caption(second_expected)
    assert second.answers.last.inner_text()


def test_a_question_longer_than_the_context_is_refused_with_the_limit(open_demo: OpenPage) -> None:
    chat = open_demo()
    for model in (PIPELINE, ONNX):
        chat.start_new_chat()
        chat.pick(model)
        chat.wait_for_caption(chat.ask("hello world " * 5000))
        expect(chat.errors).to_contain_text("exceeds the context window")
        expect(chat.errors).to_contain_text("prompt and answer may have 8,192 together")
        chat.set_setting("Max tokens", 8)
        assert chat.answer("Hi")


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_no_model_process_outlives_the_app(
    browser: Browser, demo: Demo, tmp_path: Path, signum: signal.Signals
) -> None:
    # Not created by `new_visitor`, which fails the test for errors: a page whose server is killed may log some.
    visitor = browser.new_context(viewport=DESKTOP)
    with serve(demo.settings.home, tmp_path / "app.log") as server:
        chat = open_chat(visitor, server).pick(ONNX)
        start_long_answer(chat)
        children = server.model_processes()
        assert children
        os.kill(server.process.pid, signum)
        server.process.wait(timeout=60)
        _, alive = psutil.wait_procs(children, timeout=60)
        assert alive == []
    visitor.close()


def start_long_answer(chat: ChatPage) -> int:
    """Ask for an answer longer than any test waits for, and return once it streams; see ChatPage.ask for the result."""
    chat.set_setting("Max tokens", 4000)
    expected = chat.ask(LONG_STORY)
    chat.wait_for_text()
    return expected
