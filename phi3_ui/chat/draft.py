"""A question that is being written, and the share of a model's context that it would fill."""

from collections.abc import Sequence
from dataclasses import dataclass

from phi3_ui.chat.conversation import Conversation
from phi3_ui.chat.types import Message

_CHARACTERS_PER_TOKEN = 4
_SURELY_TOO_LONG = 2  # times the context length, if a file's tokens are only estimated


@dataclass(frozen=True)
class AttachedFile:
    """A text file that will be sent with the question."""

    id: str
    """The id that the browser uses for it."""
    name: str
    text: str
    """Its block in the question, with the fences."""


@dataclass(frozen=True)
class Draft:
    """The content of the composer."""

    text: str = ""
    """The whole question, with the attached files."""
    files: tuple[AttachedFile, ...] = ()
    system: str = ""
    """The system prompt that it would be sent with."""

    def build_prompts(self, conversation: Conversation) -> list[tuple[Message, ...]]:
        """Return the prompts to count: the whole prompt and, if there are files, one without a question and one per file."""
        system = (Message("system", self.system),) if self.system.strip() else ()
        whole = (*conversation.build_messages(self.system), Message("user", self.text))
        if not self.files:
            return [whole]
        return [whole, *((*system, Message("user", text)) for text in ("", *(file.text for file in self.files)))]

    def without(self, files: Sequence[AttachedFile]) -> "Draft":
        """Return the draft without these files."""
        text = self.text
        for file in files:
            text = text.replace(file.text, "", 1).lstrip("\n")
        return Draft(text, tuple(file for file in self.files if file not in files), self.system)


@dataclass(frozen=True)
class ContextFill:
    """The used part of the context, in tokens."""

    used: int
    limit: int | None
    is_exact: bool = True
    file_tokens: tuple[int, ...] = ()
    """The tokens of each attached file."""

    def is_too_long(self, file: int) -> bool:
        """Return whether the file with this index alone leaves no room for an answer."""
        if self.limit is None or file >= len(self.file_tokens):
            return False
        return self.file_tokens[file] >= self.limit * (1 if self.is_exact else _SURELY_TOO_LONG)


def fill_from_answer(conversation: Conversation, limit: int | None) -> ContextFill | None:
    """Return the fill after the conversation's last answer, or an empty one before the first answer. `limit` is the model's.

    None if the last answer does not record it, for instance in an imported chat.
    """
    answer = conversation.last_answer
    if answer is None:
        return ContextFill(0, limit)
    context = answer.context
    if context is None:  # a remote model
        return ContextFill(answer.usage.total_tokens, limit) if answer.usage else None
    completion = answer.usage.completion_tokens if answer.usage else 0
    return ContextFill(context.prompt_tokens + completion, limit or context.limit)


def fill_from_counts(counts: Sequence[int], limit: int | None) -> ContextFill:
    """Return the fill from the token counts of Draft.build_prompts."""
    whole, *rest = counts
    files = tuple(max(count - rest[0], 0) for count in rest[1:])
    return ContextFill(whole, limit, file_tokens=files)


def estimate_fill(draft: Draft, conversation: Conversation, limit: int | None) -> ContextFill:
    """Estimate the fill when tokens cannot be counted: the last answer's tokens, plus one per four characters of the draft."""
    last = fill_from_answer(conversation, limit)
    files = tuple(estimate_tokens(file.text) for file in draft.files)
    if conversation.last_answer and last:
        return ContextFill(last.used + estimate_tokens(draft.text), last.limit, is_exact=False, file_tokens=files)
    return estimate_from_texts(draft, conversation, limit)


def estimate_from_texts(draft: Draft, conversation: Conversation, limit: int | None) -> ContextFill:
    """Estimate the fill from the texts only, with four characters per token."""
    files = tuple(estimate_tokens(file.text) for file in draft.files)
    used = sum(estimate_tokens(message.content) for message in draft.build_prompts(conversation)[0])
    return ContextFill(used, limit, is_exact=False, file_tokens=files)


def estimate_tokens(text: str) -> int:
    """Estimate the number of tokens of a text."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)
