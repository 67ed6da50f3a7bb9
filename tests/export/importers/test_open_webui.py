"""Chats of Open WebUI."""

from collections.abc import Callable
from typing import Any

import pytest

from phi3_ui.chat.conversation import Feedback
from phi3_ui.chat.types import Usage
from tests.export.importers.samples import exchanges, find_refusal, get_answer, get_asked_at, open_webui_chat, read_chat


@pytest.mark.parametrize("wrap", [lambda chat: [chat], lambda chat: chat, lambda chat: chat["chat"]])
def test_an_open_webui_chat_keeps_its_branches_times_and_models(wrap: Callable[[Any], Any]) -> None:
    title, conversation = read_chat(wrap(open_webui_chat()))

    first, second = conversation.turns
    assert (title, exchanges(conversation)) == ("Sums", [("2+2?", "4"), ("Sure?", "")])
    assert (get_answer(first).model, get_answer(first).usage, first.feedback) == (
        "phi3:latest",
        Usage(5, 2),
        Feedback(True, "x"),
    )
    assert (get_asked_at(first), get_asked_at(second)) == (1000, 1010)
    assert first.request
    assert first.request.system == "Be brief."
    other = get_answer(conversation.get_turn(conversation.variant_ids(first.id)[1]))
    assert (other.text, other.model, other.finish_reason) == ("four", "llama3", "cancelled")
    assert get_answer(second).error == ("refused", {"model": "phi3:latest", "detail": "out of memory"})


def test_an_open_webui_chat_may_contain_only_a_list_of_messages() -> None:
    chat = open_webui_chat()["chat"]
    chat["history"] = {"messages": {}, "currentId": "a2"}

    title, conversation = read_chat(chat)

    assert (title, exchanges(conversation)) == ("Sums", [("2+2?", "4"), ("Sure?", "")])


@pytest.mark.parametrize(
    ("key", "fields", "detail"),
    [
        ("q", {"files": [{"type": "image"}]}, "history.messages.q.files"),
        ("a", {"sources": [{"source": {}}]}, "history.messages.a.sources"),
        ("a", {"role": "tool"}, "history.messages.a.role"),
        ("a", {"content": None}, "history.messages.a.content"),
        ("q", {"content": [{"type": "image_url"}]}, "history.messages.q.content.0 is not text but image_url"),
        ("q", {"timestamp": "yesterday"}, "history.messages.q.timestamp"),
        ("q2", {"parentId": "x"}, "history.messages.q2: its parent x is missing"),
    ],
)
def test_open_webui_content_other_than_text_is_refused_by_name(key: str, fields: dict[str, Any], detail: str) -> None:
    chat = open_webui_chat()
    chat["chat"]["history"]["messages"][key] |= fields

    assert detail in find_refusal([chat])


@pytest.mark.parametrize("name", ["usage", "info"])
def test_token_counts_of_ollama_are_kept(name: str) -> None:
    answer = {"role": "assistant", "content": "2", name: {"prompt_eval_count": 7, "eval_count": 3, "eval_duration": 9}}
    _, conversation = read_chat({"history": {}, "messages": [{"role": "user", "content": "1+1?"}, answer]})

    assert get_answer(conversation.turns[0]).usage == Usage(7, 3)
