"""A question that is still being written, and how much of a model's context it would take."""

from collections.abc import Sequence
from dataclasses import dataclass

from phi3_ui.chat.conversation import Conversation
from phi3_ui.chat.types import Message

_CHARACTERS_PER_TOKEN = 4
_SURELY_TOO_LONG = 2  # times the context length, where a file's tokens are only estimated


@dataclass(frozen=True)
class AttachedFile:
    """A text file that will be sent with the question."""

    id: str
    """The browser's, to recognise it by."""
    name: str
    text: str
    """As it will be part of the question, between its fences."""


@dataclass(frozen=True)
class Draft:
    """What the composer holds."""

    text: str = ""
    """The whole question, with the attached files."""
    files: tuple[AttachedFile, ...] = ()
    system: str = ""
    """The system prompt that it would be sent with."""

    def prompts(self, conversation: Conversation) -> list[tuple[Message, ...]]:
        """What to count: the whole prompt, and if there are files, one without a question and one per file."""
        system = (Message("system", self.system),) if self.system.strip() else ()
        whole = (*conversation.build_messages(self.system), Message("user", self.text))
        if not self.files:
            return [whole]
        return [whole, *((*system, Message("user", text)) for text in ("", *(file.text for file in self.files)))]

    def without(self, files: Sequence[AttachedFile]) -> "Draft":
        """What is left once these files are removed."""
        text = self.text
        for file in files:
            text = text.replace(file.text, "", 1).lstrip("\n")
        return Draft(text, tuple(file for file in self.files if file not in files), self.system)


@dataclass(frozen=True)
class ContextFill:
    """How much of the context is filled, in tokens."""

    used: int
    limit: int | None
    is_exact: bool = True
    file_tokens: tuple[int, ...] = ()
    """Of each attached file."""

    def is_too_long(self, file: int) -> bool:
        """Whether the file with this index leaves no room for an answer, whatever else the prompt holds."""
        if self.limit is None or file >= len(self.file_tokens):
            return False
        return self.file_tokens[file] >= self.limit * (1 if self.is_exact else _SURELY_TOO_LONG)


def fill_from_answer(conversation: Conversation, limit: int | None) -> ContextFill | None:
    """What the conversation took at its last answer, and nothing before the first one. `limit` is the model's.

    None if the last answer does not say it, as one of an imported chat.
    """
    answer = conversation.last_answer
    if answer is None:
        return ContextFill(0, limit)
    context = answer.context
    if context is None:  # of a remote model
        return ContextFill(answer.usage.total_tokens, limit) if answer.usage else None
    completion = answer.usage.completion_tokens if answer.usage else 0
    return ContextFill(context.prompt_tokens + completion, limit or context.limit)


def fill_from_counts(counts: Sequence[int], limit: int | None) -> ContextFill:
    """The fill from the token counts of Draft.prompts."""
    whole, *rest = counts
    files = tuple(max(count - rest[0], 0) for count in rest[1:])
    return ContextFill(whole, limit, file_tokens=files)


def estimate_fill(draft: Draft, conversation: Conversation, limit: int | None) -> ContextFill:
    """The fill if nobody can count now: the last answer's tokens, and about four characters of the draft per token."""
    last = fill_from_answer(conversation, limit)
    files = tuple(estimate_tokens(file.text) for file in draft.files)
    if conversation.last_answer and last:
        return ContextFill(last.used + estimate_tokens(draft.text), last.limit, is_exact=False, file_tokens=files)
    return estimate_from_texts(draft, conversation, limit)


def estimate_from_texts(draft: Draft, conversation: Conversation, limit: int | None) -> ContextFill:
    """The fill that the texts alone tell, with about four characters per token."""
    files = tuple(estimate_tokens(file.text) for file in draft.files)
    used = sum(estimate_tokens(message.content) for message in draft.prompts(conversation)[0])
    return ContextFill(used, limit, is_exact=False, file_tokens=files)


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)
