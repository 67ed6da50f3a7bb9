"""Trimming a conversation to a model's context length."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.chat.context import Messages, PromptTooLongError, fit_to_context
from phi3_ui.chat.types import ContextUsage, Message


def count(messages: Messages) -> int:
    """Count five tokens per prompt, three per message, and one per character."""
    return 5 + sum(3 + len(message.content) for message in messages)


def talk(*sizes: int, system: int = 0) -> tuple[Message, ...]:
    """Return turns whose question and answer have these numbers of characters each, and a last question of the last size."""
    turns = [m for size in sizes[:-1] for m in (Message("user", "q" * size), Message("assistant", "a" * size))]
    head = [Message("system", "s" * system)] if system else []
    return (*head, *turns, Message("user", "q" * sizes[-1]))


def test_a_conversation_that_fits_is_unchanged() -> None:
    messages = talk(10, 10, 10, system=7)

    assert fit_to_context(messages, count, 1000, 100) == (messages, ContextUsage(count(messages), 1000))


def test_the_oldest_turns_are_trimmed_whole_and_the_system_prompt_is_kept() -> None:
    messages = talk(*[50] * 10, system=20)

    kept, use = fit_to_context(messages, count, 1000, 100)

    assert use.omitted_turns > 0
    assert kept == (messages[0], *messages[1 + 2 * use.omitted_turns :])
    assert use.prompt_tokens == count(kept) <= 900


def test_a_quarter_is_trimmed_at_once_so_that_the_prefix_is_stable_for_some_turns() -> None:
    limit, sizes, firsts = 2000, [40] * 15, []
    for _ in range(40):
        sizes.append(40)
        _, use = fit_to_context(talk(*sizes, system=20), count, limit, 100)
        assert use.prompt_tokens + 100 <= limit
        firsts.append(use.omitted_turns)

    changes = [one for one, other in itertools.pairwise(firsts) if one != other]
    assert firsts == sorted(firsts)
    assert len(changes) <= 9, "40 turns of 86 tokens are 7 quarters of this context"


def test_the_tokens_of_a_chat_of_megabytes_are_not_counted() -> None:
    counted = list[int]()

    def count_and_note(messages: Messages) -> int:
        counted.append(sum(len(message.content) for message in messages))
        return count(messages)

    messages = talk(*[10_000] * 1000, 200, 200, system=20)
    kept, use = fit_to_context(messages, count_and_note, 1000, 100)

    assert kept == (messages[0], *messages[-3:])
    assert use.omitted_turns == 1000
    assert max(counted) <= 100 * 1000 + 20


def test_max_tokens_is_limited_to_the_remaining_context_and_the_question_never_cut() -> None:
    kept, use = fit_to_context(talk(50, 900), count, 1000, 400)

    assert [len(message.content) for message in kept] == [900]
    assert use == ContextUsage(908, 1000, omitted_turns=1, max_tokens=92)
    assert fit_to_context(talk(10), count, 1000)[1] == ContextUsage(18, 1000)
    assert fit_to_context(talk(900), count, 1000)[1].max_tokens == 92, "an answer of no stated length may have 512"


@pytest.mark.parametrize("size", [992, 5000])
def test_a_question_that_cannot_fit_is_refused_with_its_token_count(size: int) -> None:
    with pytest.raises(PromptTooLongError, match=f"has {size + 8:,} tokens, but prompt and answer may have 1,000"):
        fit_to_context(talk(10, 10, size), count, 1000, 1)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=25),
    st.integers(0, 100),
    st.integers(100, 3000),
    st.none() | st.integers(1, 4000),
)
def test_the_trimmed_prompt_fits_and_ends_with_the_question(
    sizes: list[int], system: int, limit: int, max_tokens: int | None
) -> None:
    messages = talk(*sizes, system=system)
    least = [m for m in (messages[0], messages[-1]) if m.role == "system" or m is messages[-1]]
    try:
        kept, use = fit_to_context(messages, count, limit, max_tokens)
    except PromptTooLongError:
        assert count(least) >= limit
        return

    assert kept == (*messages[: len(kept) % 2 == 0], *messages[len(messages) - len(kept) + (len(kept) % 2 == 0) :])
    assert len(messages) - len(kept) == 2 * use.omitted_turns
    assert use.prompt_tokens == count(kept) < limit
    wanted = max_tokens or 512
    assert use.max_tokens == (limit - use.prompt_tokens if wanted > limit - use.prompt_tokens else None)
    if use.max_tokens is not None and use.omitted_turns < len(sizes) - 1:
        assert limit - use.prompt_tokens >= limit // 4, "turns leave until an answer has a quarter"
