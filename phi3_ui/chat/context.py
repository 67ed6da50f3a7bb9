"""Fitting a conversation into a model's context: the oldest turns leave first, whole, and it is said. Pure."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

from phi3_ui.chat.types import ContextUse, Message

Messages = Sequence[Message]

_ANSWER = 512  # tokens kept for an answer of no stated length
_PARTS = 4  # of the context: the most that is kept for an answer, and what is left out at once


class PromptTooLongError(Exception):
    """The question alone leaves no room for an answer; the message says by how much."""

    def __init__(self, tokens: int, context_length: int) -> None:
        super().__init__(
            f"The prompt has {tokens:,} tokens, but prompt and answer may have {context_length:,} together; shorten it"
        )


def fit(
    messages: Messages, count: Callable[[Messages], int], limit: int, max_tokens: int | None = None
) -> tuple[tuple[Message, ...], ContextUse]:
    """The messages that fit, the system prompt and the last turn always among them, and what they use of the context.

    `count` gives the tokens of a prompt, `limit` is the most that prompt and answer may have together. Once turns must
    leave, a quarter of the context leaves at once: so the prompt's beginning stays the same for some turns, and what the
    model has read of it serves again. Raises PromptTooLongError.
    """
    _, turns = _split(messages)
    wanted = min(max_tokens or _ANSWER, limit // _PARTS)

    tokens = total = count(messages)
    left_out = 0
    if total + wanted > limit and len(turns) > 1:
        step = max(1, limit // _PARTS)
        too_many = -(-(total + wanted - limit) // step) * step
        # The fewest turns that have so many tokens; all but the last if that is not enough.
        candidates = range(1, len(turns) - 1)
        left_out = 1 + bisect_left(candidates, too_many, key=lambda out: total - count(without(messages, out)))
        tokens = count(without(messages, left_out))
    room = limit - tokens
    if room < 1:
        raise PromptTooLongError(tokens, limit)
    cut = room if room < (max_tokens or _ANSWER) else None
    return without(messages, left_out), ContextUse(tokens, limit, left_out, cut)


def without(messages: Messages, turns: int) -> tuple[Message, ...]:
    """The messages but for those of the so many oldest turns."""
    head, all_ = _split(messages)
    return (*head, *(message for turn in all_[turns:] for message in turn))


def _split(messages: Messages) -> tuple[list[Message], list[list[Message]]]:
    """What stands before the first question, and the turns: a question with what follows it."""
    head: list[Message] = []
    turns: list[list[Message]] = []
    for message in messages:
        if message.role == "user":
            turns.append([message])
        else:
            (turns[-1] if turns else head).append(message)
    return head, turns
