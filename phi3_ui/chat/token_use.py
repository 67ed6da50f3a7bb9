"""The number of tokens that an answer used, for the daily limit, estimated if the model does not report it."""

from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.types import ChatRequest

_BYTES_PER_TOKEN = 4  # in English; counting UTF-8 bytes, not characters, suits other scripts better
_COMPUTED = ("remote_filtered", "remote_no_text", "remote_tool_call")
"""Errors of answers that were computed, although none of their text was shown."""


def count_used_tokens(request: ChatRequest, answer: Answer) -> int:
    """Return the tokens of prompt and answer: the model's own count, else an estimate from their texts.

    A server reports no count if the answer is cancelled, and some never do. An answer that failed before any text cost nothing.
    """
    has_text = answer.text != request.prefix
    if answer.usage and (answer.usage.completion_tokens or not has_text):
        return answer.usage.total_tokens
    if answer.error and not has_text and answer.error[0] not in _COMPUTED:
        return 0
    prompt = [message.content for message in request.messages] if request.raw_prompt is None else [request.raw_prompt]
    size = sum(
        len(text.encode(errors="replace")) for text in (*prompt, answer.text)
    )  # the answer's text includes the prefix
    return -(-size // _BYTES_PER_TOKEN)
