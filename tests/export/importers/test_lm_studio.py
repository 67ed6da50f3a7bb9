"""Chats of LM Studio."""

from typing import Any

import pytest

from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.types import Timings, Usage
from tests.export.importers.samples import exchanges, find_refusal, get_answer, get_asked_at, lm_studio_chat, read_chat


def test_an_lm_studio_chat_keeps_its_versions_times_and_models() -> None:
    title, conversation = read_chat(lm_studio_chat())

    first, second = conversation.turns
    assert title == "Sums"
    assert exchanges(conversation) == [("2+2?", "<think>Easy.</think>\n\nfour"), ("Sure?", None)]
    expected = Answer("phi-3", get_answer(first).text, Usage(9, 3), Timings(0.2, 1.5, 40.5), "length")
    assert first.answer == expected
    assert first.request
    assert (first.request.system, first.request.asked_at) == ("Be brief.", 1_700_000_005)
    other = conversation.get_turn(conversation.variant_ids(first.id)[0])
    assert (get_answer(other).text, get_answer(other).model, get_asked_at(other)) == ("4", "llama-3", 1_700_000_000)
    assert second.parent == first.id


@pytest.mark.parametrize(
    ("version", "detail"),
    [
        ({"role": "user", "content": [{"type": "file"}]}, "messages.0.versions.0.content.0 is not text but file"),
        ({"role": "tool", "content": []}, "messages.0.versions.0.role"),
        (
            {"role": "assistant", "steps": [{"type": "contentBlock", "content": [{"type": "toolCallRequest"}]}]},
            "messages.0.versions.0.steps.0.content.0 is not text but toolCallRequest",
        ),
        (
            {"role": "assistant", "steps": [{"type": "citationBlock"}]},
            "messages.0.versions.0.steps.0 is not text but citationBlock",
        ),
    ],
)
def test_lm_studio_content_other_than_text_is_refused_by_name(version: dict[str, Any], detail: str) -> None:
    assert detail in find_refusal({"name": "c", "messages": [{"versions": [version], "currentlySelected": 0}]})
    assert "messages.0.currentlySelected" in find_refusal(
        {"messages": [{"versions": [version], "currentlySelected": 1}]}
    )
