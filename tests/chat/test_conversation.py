"""Conversations as immutable values: messages to send, branches, variants and usage."""

import dataclasses
import time

import pytest

from phi3_ui.chat.conversation import Answer, Conversation, Feedback, make_title
from phi3_ui.chat.types import ContextUsage, Message, Usage


def _asked(*turns: tuple[str, str]) -> Conversation:
    """Return a conversation of these questions and answers."""
    conversation = Conversation()
    for question, text in turns:
        conversation = conversation.with_question(question).with_answer(Answer("m", text, finish_reason="stop"))
    return conversation


def test_a_question_adds_a_turn_without_an_answer() -> None:
    conversation = _asked(("one", "1")).with_question("two")

    assert [turn.question for turn in conversation.turns] == ["one", "two"]
    assert conversation.turns[-1].answer is None


def test_an_answer_is_added_to_the_last_turn_only() -> None:
    conversation = _asked(("one", "1")).with_question("two").with_answer(Answer("m", "2"))

    assert [turn.answer and turn.answer.text for turn in conversation.turns] == ["1", "2"]


def test_a_second_answer_replaces_the_first() -> None:
    conversation = _asked(("one", "1")).with_answer(Answer("m", "uno"))

    assert [(turn.question, turn.answer) for turn in conversation.turns] == [("one", Answer("m", "uno"))]


def test_an_answer_without_a_question_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no turn to answer"):
        Conversation().with_answer(Answer("m", "?"))


def test_conversations_are_immutable() -> None:
    empty = Conversation()
    asked = empty.with_question("one")
    answered = asked.with_answer(Answer("m", "1"))

    assert empty == Conversation()
    assert [(turn.question, turn.answer) for turn in asked.turns] == [("one", None)]
    assert answered != asked
    with pytest.raises(dataclasses.FrozenInstanceError):
        asked.tree = ()  # type: ignore[misc]  # what the test is about


def test_messages_alternate_and_end_with_the_question() -> None:
    conversation = _asked(("one", "1"), ("two", "2")).with_question("three")

    assert conversation.build_messages() == (
        Message("user", "one"),
        Message("assistant", "1"),
        Message("user", "two"),
        Message("assistant", "2"),
        Message("user", "three"),
    )


@pytest.mark.parametrize("blank", ["", " ", "\n\t "])
def test_a_blank_system_prompt_is_not_sent(blank: str) -> None:
    assert Conversation().with_question("hello").build_messages(blank) == (Message("user", "hello"),)


def test_a_system_prompt_comes_first_and_verbatim() -> None:
    messages = _asked(("one", "1")).with_question("two").build_messages(" Be brief. \n")

    assert messages[0] == Message("system", " Be brief. \n")
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]


def test_a_turn_without_answer_text_is_not_sent() -> None:
    failed = Conversation().with_question("one").with_answer(Answer("m", "", error=("no_model", {})))
    stopped = failed.with_question("two").with_answer(Answer("m", "", finish_reason="cancelled"))

    assert stopped.build_messages() == ()
    assert stopped.with_question("three").build_messages("s") == (Message("system", "s"), Message("user", "three"))
    assert [turn.question for turn in stopped.turns] == ["one", "two"], "it stays in the conversation"


def test_the_partial_text_of_a_stopped_or_failed_answer_is_sent() -> None:
    stopped = Conversation().with_question("one").with_answer(Answer("m", "Once up", finish_reason="cancelled"))
    failed = stopped.with_question("two").with_answer(Answer("m", "a ti", error=("unexpected", {"detail": "X"})))

    texts = [message.content for message in failed.with_question("three").build_messages()]

    assert texts == ["one", "Once up", "two", "a ti", "three"]


def test_the_last_question_is_sent_even_if_blank() -> None:
    assert Conversation().with_question("").build_messages() == (Message("user", ""),)


def test_the_title_is_the_first_question_on_one_line() -> None:
    conversation = _asked(("  Tell me\n\n a\tjoke  *now*  ", "1")).with_question("another")

    assert conversation.title == "Tell me a joke  *now*"
    assert Conversation().title == ""


def test_the_last_answer_is_found_before_an_unanswered_question() -> None:
    conversation = _asked(("one", "1"), ("two", "2")).with_question("three")

    assert conversation.last_answer is not None
    assert conversation.last_answer.text == "2"
    assert Conversation().with_question("one").last_answer is None


def test_usage_sums_the_answers_whose_usage_is_known() -> None:
    conversation = (
        Conversation()
        .with_question("one")
        .with_answer(Answer("m", "1", Usage(10, 3)))
        .with_question("two")
        .with_answer(Answer("m", "2", None))
        .with_question("three")
        .with_answer(Answer("m", "3", Usage(40, 5)))
        .with_question("four")
    )

    assert conversation.total_usage == Usage(50, 8)
    assert conversation.total_usage.total_tokens == 58
    assert Conversation().total_usage is None


def test_the_first_turn_in_the_prompt_follows_from_the_last_answer() -> None:
    def answer(text: str, left_out: int) -> Answer:
        return Answer("m", text, context=ContextUsage(10, 100, left_out))

    talk = (
        Conversation().with_question("one").with_answer(answer("a", 0)).with_question("two").with_answer(answer("", 0))
    )
    talk = talk.with_question("three").with_answer(answer("c", 0))
    assert talk.first_turn_in_context == 0
    # The second turn has no answer text, so it was not sent; the oldest turn that was sent is the first.
    assert talk.with_question("four").with_answer(answer("d", 1)).first_turn_in_context == 1
    assert talk.with_question("four").with_answer(answer("d", 2)).first_turn_in_context == 3
    assert talk.with_question("four").first_turn_in_context == 0


def _questions(conversation: Conversation) -> list[str]:
    return [turn.question for turn in conversation.turns]


def _branched() -> tuple[Conversation, Conversation]:
    """Return three turns, and the same with the second question edited."""
    talk = _asked(("one", "1"), ("two", "2"), ("three", "3"))
    return talk, talk.with_variant(talk.turns[1].id, "zwei").with_answer(Answer("m", "II"))


def test_editing_a_question_starts_a_branch_and_keeps_the_other() -> None:
    talk, branched = _branched()

    assert _questions(branched) == ["one", "zwei"]
    assert [message.content for message in branched.build_messages()] == ["one", "1", "zwei", "II"]
    assert len(branched.tree) == 4
    assert branched.variant_ids(branched.turns[1].id) == (talk.turns[1].id, branched.turns[1].id)
    assert branched.variant_ids(branched.turns[0].id) == (talk.turns[0].id,)


def test_showing_a_variant_shows_its_newest_branch() -> None:
    talk, branched = _branched()

    back = branched.with_branch_of(talk.turns[1].id)

    assert _questions(back) == ["one", "two", "three"]
    assert _questions(back.with_branch_of(branched.leaf or "")) == ["one", "zwei"]
    assert back.tree == branched.tree


def test_regenerating_asks_the_same_question_again() -> None:
    talk = _asked(("one", "1"), ("two", "2"))

    again = talk.with_variant(talk.turns[1].id)

    assert _questions(again) == ["one", "two"]
    assert again.turns[1].answer is None
    assert talk.turns[1].id in again.variant_ids(again.turns[1].id)


def test_the_first_question_can_have_variants_and_the_title_stays() -> None:
    talk = _asked(("one", "1"))
    other = talk.with_variant(talk.turns[0].id, "uno")

    assert _questions(other) == ["uno"]
    assert other.title == "one"
    assert len(other.variant_ids(other.turns[0].id)) == 2


def test_undo_hides_turns_one_by_one_and_loses_none() -> None:
    talk = _asked(("one", "1"), ("two", "2"))

    once = talk.without_last_turn()

    assert _questions(once) == ["one"]
    assert _questions(once.without_last_turn()) == []
    assert once.without_last_turn().without_last_turn() == once.without_last_turn()
    assert _questions(once.with_question("due")) == ["one", "due"]
    assert len(once.with_question("due").variant_ids(once.with_question("due").tree[1].id)) == 2
    assert once.without_last_turn().with_branch_of(talk.turns[0].id) == talk


def test_an_answer_reaches_its_turn_while_another_branch_is_shown() -> None:
    talk = _asked(("one", "1"))
    asked = talk.with_variant(talk.turns[0].id)

    late = asked.with_branch_of(talk.turns[0].id).with_answer(Answer("m", "eins"), asked.leaf)

    assert late.turns[0].answer == Answer("m", "1", finish_reason="stop")
    assert late.get_turn(asked.leaf or "").answer == Answer("m", "eins")


def test_a_turn_can_be_returned_as_it_was_asked() -> None:
    talk, branched = _branched()

    before = branched.truncated_at(talk.turns[1].id)

    assert [message.content for message in before.build_messages("s")] == ["s", "one", "1", "two"]


def test_feedback_is_set_changed_and_removed() -> None:
    talk = _asked(("one", "1"))
    turn = talk.turns[0].id

    rated = talk.with_feedback(turn, Feedback(True)).with_feedback(turn, Feedback(False, "wrong"))

    assert rated.turns[0].feedback == Feedback(False, "wrong")
    assert rated.with_feedback(turn, None) == talk


@pytest.mark.parametrize("change", ["with_variant", "with_branch_of", "truncated_at", "variant_ids", "get_turn"])
def test_an_unknown_turn_id_is_an_error(change: str) -> None:
    with pytest.raises(KeyError):
        getattr(_asked(("one", "1")), change)("0" * 32)


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("File: a.md\n```md\ntext\n```\n\nWhat is\nthis?", "What is this?"),
        ("File: a.md\n````md\n```\n````\n\nFile: b\n```\n```\n\nBoth?", "Both?"),
        ("File: a.md\n```md\ntext\n```\n\nFile: b.py\n```py\n```", "a.md, b.py"),
        ("File: a.md\n```md\nnot closed", "File: a.md ```md not closed"),
    ],
)
def test_a_title_leaves_out_what_attached_files_hold(question: str, title: str) -> None:
    assert make_title(question) == title


@pytest.mark.parametrize(
    "question",
    [f"a{' ' * 200_000}b", f"a{chr(11) * 200_000}b", "File: a\n```\n```\n\n" * 50_000, f"a{' ' * 1000} \n" * 200],
    ids=["spaces", "vertical tabs", "files", "lines"],
)
def test_a_title_of_any_text_takes_little_time(question: str) -> None:
    started = time.process_time()
    assert 0 < len(make_title(question)) <= 1000
    assert time.process_time() - started < 5
