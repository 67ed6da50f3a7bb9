"""Chats on the page: streaming, several chats and visitors, switching, unloading and failing models, literal text."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from mlflow import MlflowClient
from playwright.sync_api import expect

from phi3_ui.testing import Reply, log_scripted_model
from tests.e2e.conftest import App, OpenPage
from tests.support.chat_page import LOAD, ChatPage
from tests.support.trust import approve_models


def test_an_answer_streams_and_its_caption_names_the_model(app: App, chat: ChatPage) -> None:
    gate = app.model.create_gate()
    app.model.enqueue(Reply("Once upon ", gate, "a time there was a sea.", usage=(120, 34)))
    expected = chat.ask("Write a story about the sea.")
    expect(chat.answers.last).to_have_text("Once upon")
    expect(chat.stop).to_be_visible()
    gate.open()
    chat.wait_for_caption(expected)
    expect(chat.answers.last).to_have_text("Once upon a time there was a sea.")
    expect(chat.captions.last).to_contain_text("scripted-one · 120 in · 34 out · first token")
    expect(chat.page.locator("#phi3-chat .phi3-badge")).to_have_text("PY")


def test_switching_the_model_sends_it_the_whole_conversation(app: App, chat: ChatPage) -> None:
    app.model.enqueue(Reply("Berlin."))
    chat.pick("scripted-one")
    chat.answer("What is the capital of Germany?")
    chat.pick("scripted-two")
    expect(chat.captions).to_have_count(1)
    chat.answer("And of Spain?")
    models = [caption.split(" · ")[0] for caption in chat.captions.all_inner_texts()]
    assert models == ["scripted-one", "scripted-two"]
    expect(chat.page.locator("#phi3-chat .phi3-switch")).to_have_text("scripted-two answers from here")
    assert [message["content"] for message in app.other.requests[-1].messages] == [
        "What is the capital of Germany?",
        "Berlin.",
        "And of Spain?",
    ]


def test_switching_chats_while_an_answer_streams_loses_nothing(app: App, open_page: OpenPage) -> None:
    story, capital = "Write a story about the sea.", "What is the capital of Germany?"
    gate = app.model.create_gate()
    app.model.enqueue(Reply("Once upon ", gate, "a time.", question=story))
    chat = open_page()
    chat.ask(story)
    chat.wait_for_text()
    chat.start_new_chat()
    chat.answer(capital)
    expect(chat.chats).to_have_count(2)
    # The story finishes in the background and does not overwrite the visible chat.
    expect(chat.chat_list).to_contain_text(story)
    gate.open()
    chat.answer("And of Austria?")
    expect(chat.questions).to_have_text([capital, "And of Austria?"])
    chat.chats.filter(has_text=story).click()
    expect(chat.questions).to_have_text([story])
    chat.wait_for_caption(1)
    expect(chat.answers.last).to_have_text("Once upon a time.")
    expect(chat.captions.last).to_contain_text("5 out")
    chat.chats.filter(has_text="capital of Germany").click()
    expect(chat.questions).to_have_text([capital, "And of Austria?"])


def test_returning_to_a_streaming_chat_shows_it_still_streaming(app: App, chat: ChatPage) -> None:
    gate = app.model.create_gate()
    app.model.enqueue(Reply("Once upon ", gate, "a time."))
    chat.ask("Write a story about the sea.")
    chat.wait_for_text()
    chat.start_new_chat()
    chat.chats.first.click()
    expect(chat.stop).to_be_visible()
    expect(chat.answers.last).to_have_text("Once upon")
    gate.open()
    chat.wait_for_caption(1)
    expect(chat.answers.last).to_have_text("Once upon a time.")


def test_two_visitors_stop_and_switch_models_independently(app: App, open_page: OpenPage) -> None:
    question_1, question_2 = "Write a very long story about ONE.", "Write a story about TWO."
    gate = app.model.create_gate()
    app.model.enqueue(
        Reply("one ", endless=True, seconds_per_token=0.02, question=question_1),
        Reply("two two ", gate, "two", question=question_2),
    )
    one, two = open_page().pick("scripted-one"), open_page().pick("scripted-one")
    one.set_setting("Max tokens", 4000)
    first, second = one.ask(question_1), two.ask(question_2)
    one.wait_for_text()
    two.wait_for_text()
    one.stop.click()
    one.pick("scripted-two")
    one.wait_for_caption(first)
    expect(two.stop).to_be_visible()
    gate.open()
    two.wait_for_caption(second)
    expect(one.captions.last).to_contain_text("stopped")
    expect(two.captions.last).not_to_contain_text("stopped")
    expect(two.captions.last).to_contain_text("scripted-one")
    expect(two.answers.last).to_have_text("two two two")
    assert one.questions.all_inner_texts() == [question_1]
    assert two.questions.all_inner_texts() == [question_2]


def test_stop_keeps_the_text_and_the_next_question_is_answered(app: App, chat: ChatPage) -> None:
    gate = app.model.create_gate()
    app.model.enqueue(Reply("Once upon ", gate, "a time."))
    expected = chat.ask("Write a story about the sea.")
    chat.wait_for_text()
    chat.stop.click()
    chat.wait_for_caption(expected)
    expect(chat.captions.last).to_contain_text("stopped")
    expect(chat.answers.last).to_have_text("Once upon")
    assert chat.answer("And now?") == "And now?"


def test_text_is_shown_and_sent_as_typed(app: App, chat: ChatPage) -> None:
    question = "<b>bold</b> <img src=x onerror=alert(1)> & <|im_end|> `<i>` 😀"
    chat.answer(question)
    assert chat.questions.last.inner_text() == question
    assert app.model.requests[-1].question == question


def test_a_lone_surrogate_becomes_the_replacement_character(app: App, chat: ChatPage) -> None:
    chat.message.evaluate("(box) => { box.value = 'half \\ud83d x'; box.dispatchEvent(new Event('input')); }")
    chat.send.click()
    chat.wait_for_caption(1)
    assert chat.questions.last.inner_text() == "half \ufffd x"
    assert app.model.requests[-1].question == "half \ufffd x"


def test_a_blank_message_is_not_sent(app: App, chat: ChatPage) -> None:
    chat.message.fill("   ")
    with chat.page.expect_response(re.compile("queue/join")):
        chat.message.press("Enter")
    expect(chat.message).to_have_value("   ")
    assert chat.answer("Hi") == "Hi"
    expect(chat.questions).to_have_text(["Hi"])
    assert [request.question for request in app.model.requests] == ["Hi"]


def test_a_failing_answer_keeps_its_text_and_shows_one_error(app: App, chat: ChatPage) -> None:
    app.model.enqueue(Reply("So far", error="out of memory"))
    chat.wait_for_caption(chat.ask("Go on."))
    expect(chat.errors).to_have_count(1)
    expect(chat.errors).to_contain_text("scripted-one could not answer: out of memory")
    expect(chat.answers.filter(has_text="So far")).to_have_count(1)
    assert "Traceback" not in chat.page.content()


def test_a_model_killed_mid_answer_is_reported_and_reloaded(app: App, chat: ChatPage) -> None:
    app.model.enqueue(Reply("Once upon ", app.model.create_gate(), "a time."))
    chat.pick("scripted-one")
    expected = chat.ask("Write a story about the sea.")
    chat.wait_for_text()
    processes = app.server.model_processes()
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=60)
    chat.wait_for_caption(expected)
    expect(chat.errors).to_have_count(1)
    expect(chat.errors).to_contain_text("crashed")
    assert "Traceback" not in chat.page.content()
    expect(chat.answers.filter(has_text="Once upon")).to_have_count(1)
    assert chat.answer("What is the capital of Germany?")
    expect(chat.errors).to_have_count(1)


def test_unloading_ends_the_process_and_the_next_question_reloads_the_model(app: App, chat: ChatPage) -> None:
    chat.pick("scripted-one")
    old_pids = {process.pid for process in app.server.model_processes()}
    chat.show_tab("model")
    chat.page.locator("#phi3-unload").click()
    expect(chat.status).to_contain_text("not loaded")
    assert len(app.server.model_processes()) == len(old_pids) - 1
    assert chat.answer("Hi")
    assert not {process.pid for process in app.server.model_processes()} <= old_pids


def test_a_model_that_fails_to_load_is_reported_and_the_question_is_kept(app: App, open_page: OpenPage) -> None:
    chat = open_page()
    with log_broken_model(app) as name:
        chat.refresh_models()
        chat.choose(name)
        expect(chat.status).to_contain_text("broken could not be loaded", timeout=LOAD)
        chat.ask("Are you there?")
        chat.wait_for_caption(1)
        expect(chat.errors).to_contain_text("could not be loaded")
        expect(chat.questions).to_have_text(["Are you there?"])
        assert "Traceback" not in chat.page.content()


@contextmanager
def log_broken_model(app: App) -> Iterator[str]:
    """Log a model whose code raises an error on load, and yield its name."""
    uri = f"sqlite:///{app.server.home / 'mlflow.db'}"
    broken = log_scripted_model(uri, app.server.home / "broken", "broken")
    client = MlflowClient(uri)
    (code,) = parse_local_path(client.get_logged_model(broken.model_id).artifact_location).glob("*.py")
    code.write_text("raise ValueError('no weights')\n", encoding="utf-8")
    approve_models(uri, app.server.home, [broken.name])
    yield broken.name
    client.delete_logged_model(broken.model_id)


def parse_local_path(artifact_location: str) -> Path:
    return Path(artifact_location.removeprefix("file://"))
