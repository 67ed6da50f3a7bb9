"""Prompt sets from chats."""

from dataclasses import replace
from typing import cast

import pytest

from phi3_ui.chat.conversation import Conversation, Feedback
from phi3_ui.chat.types import Message
from phi3_ui.errors import UserError
from phi3_ui.evaluation.chat_records import build_rated_records, build_records, collect_rated_records
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.summaries import ConversationSummary
from phi3_ui.store.conversations.traces import trace_id_for
from tests.store.conversations.chats import ME, ask, make_answer, make_conversation


@pytest.fixture
def chat() -> Conversation:
    """Two questions, the second rated good, with a variant rated bad."""
    chat = ask(make_conversation("Hi", "Hello"), "Capital of France?").with_answer(make_answer("Paris."))
    good = chat.turns[-1]
    chat = chat.with_feedback(good.id, Feedback(good=True))
    chat = chat.with_variant(good.id, request=good.request).with_answer(make_answer("Rome."))
    return chat.with_feedback(chat.turns[-1].id, Feedback(good=False))


def test_a_rated_answer_becomes_a_record_and_a_good_one_its_expectation(chat: Conversation) -> None:
    good, bad = build_rated_records(chat)

    assert good.messages == (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", "Capital of France?"),
    )
    assert good.expectations == {"expected_response": "Paris."}
    assert (bad.messages, bad.expectations) == (good.messages, {})
    assert good.source_trace_id == trace_id_for(chat.tree[1].id)


def test_selected_answers_need_no_rating(chat: Conversation) -> None:
    (record,) = build_records(chat, {chat.tree[0].id})

    assert (record.question, record.expectations) == ("Hi", {})


def test_a_failed_answer_does_not_become_an_expectation(chat: Conversation) -> None:
    failed = replace(chat.tree[0], answer=make_answer("Hel", error=("interrupted", {})), feedback=Feedback(good=True))

    assert build_records(Conversation((failed,), failed.id), {failed.id})[0].expectations == {}


class _History:
    """Chats by their ids; None stands for a damaged chat."""

    def __init__(self, chats: dict[str, Conversation | None]) -> None:
        self._chats = chats

    def list_conversations(self, visitor_id: str) -> list[ConversationSummary]:
        assert visitor_id == ME
        return [ConversationSummary(chat_id, "", 0.0) for chat_id in self._chats]

    def load(self, _: str, conversation_id: str) -> Conversation:
        if chat := self._chats[conversation_id]:
            return chat
        raise UserError("chat_unreadable")


def test_all_rated_chats_are_collected(chat: Conversation) -> None:
    history = cast("History", _History({"a": chat, "b": None, "c": make_conversation()}))

    assert collect_rated_records(history, ME) == build_rated_records(chat)
    with pytest.raises(UserError, match="No answer in these chats is rated"):
        collect_rated_records(history, ME, ["c"])
