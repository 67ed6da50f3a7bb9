"""The main job in a real browser, with the real demo model."""

import re
from collections.abc import Callable

import psutil
import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Server
from tests.support.chat_page import ChatPage
from tests.support.idle import wait_until_idle

Open = Callable[..., ChatPage]


@pytest.mark.parametrize(
    ("engine", "model", "tokens"),
    [("ONNX", "smollm2-135m-onnx", 200), ("Pipeline", "smollm2-135m-pipeline", 40)],  # each some two seconds
)
def test_pick_ask_and_read_a_streamed_answer_with_its_usage(
    open_page: Open, engine: str, model: str, tokens: int
) -> None:
    chat = open_page().pick(engine)
    chat.setting("Temperature", 0)
    chat.setting("Max tokens", tokens)
    expected = chat.ask("Write a long story about the sea.")
    growing = chat.wait_for_text().inner_text()
    expect(chat.stop).to_be_visible()
    chat.wait_for_caption(expected)
    whole = chat.answers.last.inner_text()
    assert len(whole) > len(growing)
    assert whole.startswith(growing.rstrip())
    caption = chat.captions.last.inner_text()
    assert caption.startswith(f"{model} · {engine}")
    (prompt, completion) = re.findall(r"(\d+) \+ (\d+) tokens", caption)[0]
    assert completion == str(tokens)
    assert "cut at max tokens" in caption
    expect(chat.usage).to_contain_text("cut at max tokens")
    rows = chat.usage_rows()
    assert rows["Prompt tokens"] == [prompt, prompt]
    assert rows["Completion tokens"] == [str(tokens), str(tokens)]
    assert rows["Total tokens"][0] == str(int(prompt) + tokens)
    assert re.fullmatch(r"\d+\.\d\d s", rows["Time to first token"][0])
    assert float(rows["Tokens/s"][0]) > 0

    chat.answer("And now?")
    expect(chat.usage.locator("tbody tr").nth(2).locator("td").nth(1)).not_to_have_text(str(tokens))
    rows = chat.usage_rows()
    asked, answered = int(rows["Prompt tokens"][0]), int(rows["Completion tokens"][0])
    assert int(rows["Prompt tokens"][1]) == asked + int(prompt)
    assert int(rows["Cached prompt tokens"][0]) >= int(prompt) > 0, "the first turn is not read again"
    expect(chat.context).to_have_text(f"{asked + answered:,} of 8,192 tokens")
    expect(chat.status).to_contain_text("Prompt cache: ")


def test_the_card_shows_the_model_and_its_run(open_page: Open) -> None:
    chat = open_page().pick("Pipeline")
    for text in ["models:/m-", "transformers", "llm/v1/chat", "8,192 tokens", "load_seconds", "FINISHED", "messages"]:
        expect(chat.card).to_contain_text(text)
    chat.pick("ONNX")
    for text in ["pyfunc", "prompt", "int8", "'max_tokens': long (default: 512)", "version 1 @champion"]:
        expect(chat.card).to_contain_text(text)


def test_the_picker_tells_the_two_apart_newest_first(open_page: Open) -> None:
    chat = open_page()
    chat.page.locator("#phi3-picker input").click()
    options = chat.page.get_by_role("option").all_inner_texts()
    assert [option.split(" · ")[1] for option in options if "@" not in option] == ["ONNX", "Pipeline"]
    aliases = sorted(option.strip() for option in options if "@" in option)
    assert aliases == ["smollm2-135m-onnx @champion · version 1", "smollm2-135m-pipeline @champion · version 1"]


def test_switching_the_model_keeps_the_conversation_and_says_who_answered(open_page: Open) -> None:
    chat = open_page().pick("ONNX")
    chat.setting("Temperature", 0)
    chat.setting("Max tokens", 16)
    chat.answer("What is the capital of Germany?")
    chat.pick("Pipeline")
    expect(chat.captions).to_have_count(1)
    chat.answer("And of Spain?")
    names = [caption.split(" · ")[1] for caption in chat.captions.all_inner_texts()]
    assert names == ["ONNX", "Pipeline"]
    assert int(chat.usage_rows()["Prompt tokens"][0]) > 50  # the first turn went along


@pytest.mark.parametrize("engine", ["ONNX", "Pipeline"])
def test_stop_ends_the_compute_and_keeps_the_words(open_page: Open, server: Server, engine: str) -> None:
    chat = open_page().pick(engine)
    chat.setting("Max tokens", 4000)
    expected = chat.ask("Write a very long story about the sea, with many chapters.")
    chat.wait_for_text()
    chat.stop.click()
    chat.wait_for_caption(expected)
    assert "stopped" in chat.captions.last.inner_text()
    assert chat.answers.last.inner_text()
    wait_until_idle(server.model_processes)


def test_a_model_killed_mid_answer_is_told_and_answers_again(open_page: Open, server: Server) -> None:
    chat = open_page().pick("ONNX")
    chat.setting("Max tokens", 4000)
    expected = chat.ask("Write a very long story about the sea, with many chapters.")
    chat.wait_for_text()
    victims = server.model_processes()
    for victim in victims:
        victim.kill()
    psutil.wait_procs(victims, timeout=30)
    chat.wait_for_caption(expected)
    expect(chat.errors).to_have_count(1)
    expect(chat.errors).to_contain_text("crashed")
    assert "Traceback" not in chat.page.content()
    assert chat.answers.last.inner_text()  # what it wrote is kept
    chat.setting("Max tokens", 12)
    assert chat.answer("What is the capital of Germany?")
    expect(chat.errors).to_have_count(1)


def test_new_chat_and_back_loses_nothing_even_while_an_answer_is_written(open_page: Open) -> None:
    chat = open_page().pick("ONNX")
    chat.setting("Max tokens", 120)
    chat.setting("Temperature", 0)
    chat.ask("Write a story about the sea.")
    chat.wait_for_text()
    chat.new_chat.click()
    expect(chat.questions).to_have_count(0)
    chat.answer("What is the capital of Germany?")
    expect(chat.chats).to_have_count(2)
    # The story ends behind it, and is not drawn over it.
    expect(chat.page.locator("#phi3-chats")).to_contain_text("Write a story about the sea.")
    chat.answer("And of Austria?")
    expect(chat.questions).to_have_text(["What is the capital of Germany?", "And of Austria?"])
    chat.chats.filter(has_text="Write a story about the sea.").click()
    expect(chat.questions).to_have_text(["Write a story about the sea."])
    chat.wait_for_caption(1)
    assert "120 tokens" in chat.captions.last.inner_text()
    chat.chats.filter(has_text="capital of Germany").click()
    expect(chat.questions).to_have_text(["What is the capital of Germany?", "And of Austria?"])


def test_two_people_stay_apart(open_page: Open) -> None:
    one, two = open_page().pick("ONNX"), open_page().pick("ONNX")
    one.setting("Max tokens", 4000)
    two.setting("Max tokens", 60)
    first, second = one.ask("Write a very long story about ONE."), two.ask("Write a story about TWO.")
    one.wait_for_text()
    two.wait_for_text()
    one.stop.click()
    one.pick("Pipeline")
    one.wait_for_caption(first)
    two.wait_for_caption(second)
    assert "stopped" in one.captions.last.inner_text()
    assert "stopped" not in two.captions.last.inner_text()
    assert "ONNX" in two.captions.last.inner_text()
    assert one.questions.all_inner_texts() == ["Write a very long story about ONE."]
    assert two.questions.all_inner_texts() == ["Write a story about TWO."]


def test_who_waits_for_the_pipeline_sees_how_many_are_ahead(open_page: Open) -> None:
    one, two = open_page().pick("Pipeline"), open_page().pick("Pipeline")
    one.setting("Max tokens", 4000)
    two.setting("Max tokens", 8)
    first = one.ask("Write a very long story about ONE.")
    one.wait_for_text()
    second = two.ask("Hi")
    expect(two.waiting).to_have_text("Queued: 1 request ahead")
    one.stop.click()
    one.wait_for_caption(first)
    two.wait_for_caption(second)
    assert two.answers.last.inner_text()


def test_closing_the_tab_ends_the_compute(open_page: Open, server: Server) -> None:
    chat = open_page().pick("ONNX")
    chat.setting("Max tokens", 4000)
    chat.ask("Write a very long story about the sea, with many chapters.")
    chat.wait_for_text()
    chat.page.context.close()
    wait_until_idle(server.model_processes)


def test_what_is_typed_is_shown_as_typed(open_page: Open) -> None:
    chat = open_page().pick("ONNX")
    chat.setting("Max tokens", 4)
    question = "<b>bold</b> <img src=x onerror=alert(1)> & <|im_end|> `<i>` 😀"
    chat.answer(question)
    assert chat.questions.last.inner_text() == question.replace("`", "")


def test_an_empty_message_asks_nothing(open_page: Open) -> None:
    chat = open_page()
    chat.message.fill("   ")
    chat.message.press("Enter")
    chat.page.wait_for_timeout(500)
    expect(chat.questions).to_have_count(0)
    expect(chat.message).to_have_value("   ")


def test_unloading_ends_the_process_and_the_next_question_loads_it_again(open_page: Open, server: Server) -> None:
    chat = open_page().pick("ONNX")
    before = {process.pid for process in server.model_processes()}
    chat.page.locator("#phi3-unload").click()
    expect(chat.status).to_contain_text("not loaded")
    assert len(server.model_processes()) == len(before) - 1
    chat.setting("Max tokens", 8)
    assert chat.answer("Hi")
    assert not {process.pid for process in server.model_processes()} <= before


@pytest.mark.parametrize("engine", ["ONNX", "Pipeline"])
def test_a_question_longer_than_the_context_is_refused_with_its_count(open_page: Open, engine: str) -> None:
    chat = open_page().pick(engine)
    chat.wait_for_caption(chat.ask("hello world " * 5000))
    expect(chat.errors).to_contain_text("rejected the question")
    expect(chat.errors).to_contain_text("prompt and answer may have 8,192 together")
    chat.setting("Max tokens", 8)
    assert chat.answer("Hi")


def test_half_an_emoji_becomes_the_replacement_character(open_page: Open) -> None:
    chat = open_page().pick("ONNX")
    chat.setting("Max tokens", 4)
    chat.message.evaluate("(box) => { box.value = 'half \\ud83d x'; box.dispatchEvent(new Event('input')); }")
    chat.send.click()
    chat.wait_for_caption(1)
    assert chat.questions.last.inner_text() == "half \ufffd x"
