"""How many tokens an answer has cost, for the limit of a day, also where nobody has counted them."""

from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.types import ChatRequest

_BYTES_PER_TOKEN = 4  # of English; of UTF-8, which gives other scripts more than characters would
_COMPUTED = ("remote_filtered", "remote_no_text", "remote_tool_call")
"""Errors of answers that were computed, though nothing of them was shown."""


def count_used_tokens(request: ChatRequest, answer: Answer) -> int:
    """The tokens of the prompt and the answer: those that the model reports, else about as many as their texts have.

    A server reports none where the reader leaves before the end, and some never do. What failed before any text cost nothing.
    """
    has_text = answer.text != request.prefix
    if answer.usage and (answer.usage.completion_tokens or not has_text):
        return answer.usage.total_tokens
    if answer.error and not has_text and answer.error[0] not in _COMPUTED:
        return 0
    prompt = [message.content for message in request.messages] if request.raw_prompt is None else [request.raw_prompt]
    size = sum(len(text.encode(errors="replace")) for text in (*prompt, answer.text))  # which begins with the prefix
    return -(-size // _BYTES_PER_TOKEN)
