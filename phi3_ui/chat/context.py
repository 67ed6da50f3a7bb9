"""Fits a conversation into a model's context by dropping whole turns, oldest first. Pure functions."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

from phi3_ui.chat.types import ContextUsage, Message

Messages = Sequence[Message]

_DEFAULT_ANSWER_TOKENS = 512  # reserved for an answer if max_tokens is not set
_FRACTION = 4  # at most a quarter of the context is reserved for an answer; turns are dropped in steps of a quarter

_MAX_CHARS_PER_TOKEN = 100  # on average; ordinary text has four


class PromptTooLongError(Exception):
    """The last question alone leaves no room for an answer; the message gives the token counts."""

    def __init__(self, tokens: int, context_length: int) -> None:
        super().__init__(
            f"the prompt has {tokens:,} tokens, but prompt and answer may have {context_length:,} together"
        )


def check_fits(tokens: int, context_length: int) -> None:
    """Raise PromptTooLongError if a prompt leaves no room for an answer."""
    if tokens >= context_length:
        raise PromptTooLongError(tokens, context_length)


def fit_to_context(
    messages: Messages, count_tokens: Callable[[Messages], int], limit: int, max_tokens: int | None = None
) -> tuple[tuple[Message, ...], ContextUsage]:
    """Drop the oldest turns until the prompt fits. The system prompt and the last turn are always kept.

    Turns are dropped in steps of a quarter of the context, so that the prompt keeps its prefix over several turns and the KV
    cache of that prefix is reused.

    Args:
        messages: The whole conversation.
        count_tokens: Counts the tokens of a prompt.
        limit: Context length: the maximum of prompt and answer together, in tokens.
        max_tokens: Requested maximum length of the answer.

    Returns:
        The remaining messages and how they use the context.

    Raises:
        PromptTooLongError: The last turn alone does not fit.
    """
    oversized = _count_oversized_turns(messages, limit)
    messages = drop_oldest_turns(messages, oversized)
    _, turns = _split_turns(messages)
    reserved = min(max_tokens or _DEFAULT_ANSWER_TOKENS, limit // _FRACTION)

    tokens = total = count_tokens(messages)
    omitted = 0
    if total + reserved > limit and len(turns) > 1:
        step = max(1, limit // _FRACTION)
        excess = -(-(total + reserved - limit) // step) * step
        # The fewest turns with that many tokens; all but the last if those are not enough.
        candidates = range(1, len(turns) - 1)
        omitted = 1 + bisect_left(
            candidates, excess, key=lambda count: total - count_tokens(drop_oldest_turns(messages, count))
        )
        tokens = count_tokens(drop_oldest_turns(messages, omitted))
    available = limit - tokens
    check_fits(tokens, limit)
    reduced = available if available < (max_tokens or _DEFAULT_ANSWER_TOKENS) else None
    return drop_oldest_turns(messages, omitted), ContextUsage(tokens, limit, oversized + omitted, reduced)


def _count_oversized_turns(messages: Messages, limit: int) -> int:
    """Return how many of the oldest turns cannot fit by their length alone: counting the tokens of megabytes takes minutes."""
    _, turns = _split_turns(messages)
    room = limit * _MAX_CHARS_PER_TOKEN
    for number in reversed(range(len(turns))):
        room -= sum(len(message.content) for message in turns[number])
        if room < 0:
            return min(number + 1, len(turns) - 1)
    return 0


def drop_oldest_turns(messages: Messages, count: int) -> tuple[Message, ...]:
    """Return the messages without those of the `count` oldest turns."""
    head, turns = _split_turns(messages)
    return (*head, *(message for turn in turns[count:] for message in turn))


def _split_turns(messages: Messages) -> tuple[list[Message], list[list[Message]]]:
    """Return the messages before the first question, and the turns: each question with the messages that follow it."""
    head: list[Message] = []
    turns: list[list[Message]] = []
    for message in messages:
        if message.role == "user":
            turns.append([message])
        else:
            (turns[-1] if turns else head).append(message)
    return head, turns
