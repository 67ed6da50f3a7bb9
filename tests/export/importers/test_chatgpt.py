"""Chats of ChatGPT: message trees, authors and content types."""

import time
from typing import Any

import pytest

from tests.export.importers.samples import (
    GPT,
    IMAGE,
    branched_chatgpt_chat,
    chatgpt_chat,
    chatgpt_node,
    exchanges,
    find_refusal,
    get_answer,
    get_asked_at,
    read_chat,
)


def test_a_chatgpt_tree_keeps_its_branches_times_and_models() -> None:
    title, conversation = read_chat([branched_chatgpt_chat()])

    first, second = conversation.turns
    assert (title, exchanges(conversation)) == ("Sums", [("2+2?", "4"), ("Sure?", "Yes.")])
    variants = [conversation.get_turn(turn_id) for turn_id in conversation.variant_ids(first.id)]
    assert [
        (turn.question, get_answer(turn).text, get_answer(turn).model, get_asked_at(turn)) for turn in variants
    ] == [
        ("2+2?", "4", "gpt-4", 1000),
        ("2+2?", "four", "o1", 1005),
        ("3+3?", "6", "gpt-4", 1007),
    ]
    assert [get_answer(turn).finish_reason for turn in variants] == ["stop", "length", "stop"]
    assert get_asked_at(second) == 1010
    assert [get_asked_at(turn) for turn in conversation.tree] == sorted(
        get_asked_at(turn) for turn in conversation.tree
    )


def test_a_chatgpt_export_may_list_only_the_children_of_a_node() -> None:
    chat = branched_chatgpt_chat()
    for key, node in chat["mapping"].items():
        node["children"] = [child for child, other in chat["mapping"].items() if other["parent"] == key]
    for node in chat["mapping"].values():
        del node["parent"]

    assert exchanges(read_chat(chat)[1]) == [("2+2?", "4"), ("Sure?", "Yes.")]
    assert len(read_chat(chat)[1].tree) == 4


def test_chatgpt_tools_reasoning_and_instructions_are_kept() -> None:
    instructions = {
        "content_type": "user_editable_context",
        "user_profile": "I am six.",
        "user_instructions": "Be brief.",
    }
    thoughts = {"content_type": "thoughts", "thoughts": [{"summary": "Add", "content": "1 and 1"}]}
    code = {"content_type": "code", "language": "python", "text": "print('```')"}
    chat = chatgpt_chat(
        i=chatgpt_node("s", "user", instructions),
        q=chatgpt_node("i", "user", "1+1?", 1000),
        m=chatgpt_node(
            "q", "assistant", {"content_type": "model_editable_context", "model_set_context": "Likes sums."}
        ),
        t=chatgpt_node("m", "assistant", thoughts, 1001, metadata=GPT),
        c=chatgpt_node("t", "assistant", code, 1002, recipient="python", metadata=GPT),
        o=chatgpt_node("c", "tool", {"content_type": "execution_output", "text": "2"}, 1003),
        a=chatgpt_node("o", "assistant", "It is 2.", 1004, metadata=GPT),
    )

    [turn] = read_chat(chat)[1].turns

    assert turn.request
    assert turn.request.system == "I am six.\n\nBe brief.\n\nLikes sums."
    assert get_answer(turn).text == (
        "<think>\nAdd\n\n1 and 1\n</think>\n\n````python\nprint('```')\n````\n\n```\n2\n```\n\nIt is 2."
    )


def test_chatgpt_custom_instructions_in_metadata_are_kept() -> None:
    chat = chatgpt_chat(q=chatgpt_node("s", "user", "Hi"))
    data = {"about_user_message": "I am six.", "about_model_message": "Be brief."}
    chat["mapping"]["s"]["message"]["metadata"] = {"is_user_system_message": True, "user_context_message_data": data}

    [turn] = read_chat(chat)[1].turns

    assert turn.request
    assert turn.request.system == "I am six.\n\nBe brief."


@pytest.mark.parametrize(
    ("node", "field"),
    [
        (chatgpt_node("s", "user", IMAGE), "mapping.q.message.content.parts.0 is not text but image_asset_pointer"),
        (
            chatgpt_node("s", "user", "Hi", metadata={"attachments": [{"name": "a.pdf"}]}),
            "mapping.q.message.metadata.attachments",
        ),
        (chatgpt_node("s", "tool", {"content_type": "tether_quote"}), "mapping.q.message.content.content_type"),
        (chatgpt_node("s", "critic", "No."), "mapping.q.message.author.role"),
        (chatgpt_node("s", "user", {"content_type": "text", "parts": "Hi"}), "mapping.q.message.content.parts"),
        (chatgpt_node("s", "user", "Hi", at=-5), "mapping.q.message.create_time"),
        (chatgpt_node("x", "user", "Hi"), "mapping.q.message: its parent x is missing"),
        (chatgpt_node("q", "user", "Hi"), "mapping.q.message: it is its own ancestor"),
        (
            chatgpt_node(
                "s",
                "tool",
                {"content_type": "execution_output", "text": ""},
                metadata={"aggregate_result": {"messages": [{"message_type": "image"}]}},
            ),
            "mapping.q.message.content",
        ),
    ],
)
def test_chatgpt_content_other_than_text_is_refused_by_name(node: dict[str, Any], field: str) -> None:
    assert field in find_refusal(chatgpt_chat(q=node))


def test_a_chatgpt_answer_may_have_thousands_of_messages() -> None:
    """The text is not copied for each message."""
    nodes = {
        f"a{number}": chatgpt_node(f"a{number - 1}" if number else "q", "assistant", str(number))
        for number in range(5_000)
    }

    [turn] = read_chat(chatgpt_chat(q=chatgpt_node("s", "user", "Count."), **nodes))[1].turns

    assert get_answer(turn).text == "\n\n".join(map(str, range(5_000)))


def test_system_prompts_that_grow_with_every_message_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phi3_ui.export.importers.message_tree._MAX_CHARACTERS", 1_000)
    nodes = {
        f"a{number}": chatgpt_node(f"a{number - 1}" if number else "s", "system", "x" * 10) for number in range(50)
    }
    messages = [{"from": "system", "value": "x"}] * 50

    for chat in (chatgpt_chat(**nodes), {"conversations": messages}):
        assert "its system prompts or its answers are too long for so many messages" in find_refusal(chat)


def test_a_chatgpt_chat_without_messages_or_with_a_wrong_current_node_is_refused() -> None:
    assert "no messages" in find_refusal(chatgpt_chat())
    assert "current_node" in find_refusal({**branched_chatgpt_chat(), "current_node": "x"})


def test_chatgpt_citations_become_links_or_nothing_and_hidden_messages_stay_hidden() -> None:
    mark, other = "\ue200cite\ue202turn0search1\ue201", "\ue200cite\ue202turn0search2\ue201"
    references = [{"matched_text": mark, "alt": "([a.org](https://a.org))"}, {"matched_text": " ", "alt": None}]
    hidden = {"is_visually_hidden_from_conversation": True}
    chat = chatgpt_chat(
        h=chatgpt_node("s", "user", "Original custom instructions no longer available", metadata=hidden),
        q=chatgpt_node("h", "user", "Who?", 1000),
        t=chatgpt_node("q", "assistant", "search(who)", metadata=hidden),
        a=chatgpt_node(
            "t",
            "assistant",
            f"He {mark} does {other}. Yes【4:0†source】.",
            metadata={**GPT, "citations": [{"start_ix": 3}], "content_references": references},
        ),
    )

    assert exchanges(read_chat(chat)[1]) == [("Who?", "He ([a.org](https://a.org)) does. Yes.")]


@pytest.mark.parametrize(
    ("text", "references"),
    [
        (
            "\ue200",
            [{"matched_text": "\ue200", "alt": "\ue200\ue200"}] * 40,
        ),  # replacing one at a time would double the text each time
        ("\ue200" * 100_000, []),
        ("【1†" * 50_000, []),
    ],
    ids=["doubling", "open marks", "open brackets"],
)
def test_chatgpt_citations_take_little_memory_and_time(text: str, references: list[dict[str, str]]) -> None:
    started = time.process_time()
    answer = exchanges(read_chat(_cited(text, references))[1])[0][1] or ""

    assert len(answer) <= len(text)
    assert time.process_time() - started < 5


def test_a_link_that_replaces_too_many_citations_is_refused() -> None:
    references = [{"matched_text": "\ue200a\ue201", "alt": "x" * 10_000}]

    assert "more than 1000000 characters" in find_refusal(_cited("\ue200a\ue201" * 1000, references))


def _cited(text: str, references: list[dict[str, str]]) -> dict[str, Any]:
    answer = chatgpt_node("q", "assistant", text, metadata={**GPT, "content_references": references})
    return chatgpt_chat(q=chatgpt_node(None, "user", "Who?", 1000), a=answer)
