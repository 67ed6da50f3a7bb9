"""The share of the context that a draft fills."""

from hypothesis import given
from hypothesis import strategies as st

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.draft import (
    AttachedFile,
    ContextFill,
    Draft,
    estimate_fill,
    fill_from_answer,
    fill_from_counts,
)
from phi3_ui.chat.types import ContextUsage, Usage

_ANSWERED = (
    Conversation()
    .with_question("one")
    .with_answer(Answer("m", "1", Usage(30, 10), None, "stop", context=ContextUsage(30, 100)))
)
_FILE = AttachedFile("1", "a.txt", "x" * 40)


def test_without_a_draft_the_last_answer_fills_the_context() -> None:
    assert fill_from_answer(Conversation(), 100) == ContextFill(0, 100)
    assert fill_from_answer(_ANSWERED, None) == ContextFill(40, 100)


def test_an_answer_that_does_not_say_what_it_took_is_estimated_with_all_before_it() -> None:
    imported = Conversation().with_question("q" * 40).with_answer(Answer("m", "a" * 80, finish_reason="stop"))

    assert fill_from_answer(imported, 100) is None
    assert estimate_fill(Draft(), imported, 100) == ContextFill(30, 100, is_exact=False)
    assert estimate_fill(Draft("x" * 20, (), "y" * 8), imported, 100) == ContextFill(37, 100, is_exact=False)


def test_the_whole_prompt_is_counted_and_each_file_without_the_rest() -> None:
    draft = Draft("What is in it?", (_FILE,), "Be brief.")

    prompts = draft.build_prompts(_ANSWERED)

    assert [[message.role for message in prompt] for prompt in prompts] == [
        ["system", "user", "assistant", "user"],
        ["system", "user"],
        ["system", "user"],
    ]
    assert [prompt[-1].content for prompt in prompts] == ["What is in it?", "", _FILE.text]
    assert len(Draft("Hi").build_prompts(_ANSWERED)) == 1
    assert fill_from_counts([90, 20, 60], 100) == ContextFill(90, 100, file_tokens=(40,))


def test_a_file_is_too_long_where_it_leaves_no_room_for_an_answer() -> None:
    assert ContextFill(0, 100, file_tokens=(100,)).is_too_long(0)
    assert not ContextFill(0, 100, file_tokens=(99,)).is_too_long(0)
    assert not ContextFill(0, None, file_tokens=(99,)).is_too_long(0)
    assert not ContextFill(0, 100, is_exact=False, file_tokens=(150,)).is_too_long(0), "it may have fewer tokens"
    assert ContextFill(0, 100, is_exact=False, file_tokens=(200,)).is_too_long(0)


@given(st.text(max_size=400), st.text(max_size=400))
def test_an_estimate_is_marked_and_starts_from_the_last_exact_count(text: str, system: str) -> None:
    fill = estimate_fill(Draft(text, (_FILE,), system), _ANSWERED, None)

    assert not fill.is_exact
    assert 40 + len(text) / 4 <= fill.used <= 41 + len(text) / 4
    assert fill.file_tokens == (10,)
    assert estimate_fill(Draft(text, (), system), Conversation(), 100).used >= len(system.strip() + text) / 4
