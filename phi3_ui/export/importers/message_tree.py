"""Build a conversation from the messages of another program, which form a tree like its turns."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from phi3_ui.chat.conversation import Answer, Conversation, Feedback, Turn, TurnRequest, new_id
from phi3_ui.export.refusal import ImportRefusedError

_MAX_CHARACTERS = (
    50_000_000  # of all turns together; each has its own copy of the system prompt, and of the question if regenerated
)

Role = Literal["system", "context", "user", "assistant"]


@dataclass(frozen=True)
class ImportedMessage:
    """One message as written by the other program."""

    id: str
    parent: str | None
    role: Role
    """`context` is added to the system prompt of the question that it precedes or follows, and of later ones."""
    text: str
    place: str
    """Path of the message in the file, for error messages."""
    asked_at: float | None = None
    """Seconds since 1970; None if unknown."""
    answer: Answer | None = None
    """Properties of an assistant's answer, apart from its text."""
    feedback: Feedback | None = None
    continues: bool = False
    """Whether it belongs to the same answer as the preceding assistant message."""


@dataclass(eq=False)
class _Draft:
    """A candidate for a turn of the conversation: a question with or without an answer."""

    parent: "_Draft | None"
    question: ImportedMessage | None
    start: "_Draft | None"
    """The draft that this one extends by another message of the answer."""
    last: ImportedMessage | None
    """The last message of the answer."""
    system: str
    asked_at: float | None
    id: str = field(default_factory=new_id)
    is_needed: bool = False
    """Whether it ends a branch or is followed by another turn. Other drafts only lead to one with an answer, or a longer one."""
    variants: int = 0
    """Number of messages of answers that directly continue this draft."""
    size: int = field(init=False)
    """Total characters of question and answer, plus the number of their messages."""

    def __post_init__(self) -> None:
        message = self.last or self.question
        self.size = (self.start.size if self.start else 0) + (1 + len(message.text) if message else 0)

    def iterate_starts(self) -> Iterator["_Draft"]:
        """Yield this draft and the drafts that it extends, back to that of the question."""
        draft: _Draft | None = self
        while draft:
            yield draft
            draft = draft.start

    def build_turn(self) -> Turn:
        request = None
        if self.asked_at is not None or self.system.strip():
            request = TurnRequest(time.time() if self.asked_at is None else self.asked_at, "", self.system)
        answers = [draft.last for draft in self.iterate_starts() if draft.last][::-1]
        feedback = next((message.feedback for message in answers if message.feedback), None)
        question, parent = self.question.text if self.question else "", self.parent.id if self.parent else None
        return Turn(question, _join_answer(answers), self.id, parent, request, feedback)


def _join_answer(messages: Sequence[ImportedMessage]) -> Answer | None:
    if not messages:
        return None
    known = next((message.answer for message in reversed(messages) if message.answer), Answer("", ""))
    return replace(known, text="\n\n".join(message.text for message in messages if message.text))


@dataclass(frozen=True)
class _State:
    """The state after a message."""

    draft: _Draft | None = None
    """The turn that the message belongs to or, if it is a system message, follows."""
    system: str = ""
    pending: tuple[str, ...] = ()
    """System messages not yet followed by a question."""


def build_conversation(
    messages: Sequence[ImportedMessage], leaf: str | None = None, asked_at: float | None = None, system: str = ""
) -> Conversation:
    """Build a tree of turns from messages, ordered by time.

    A system message applies to the following questions, until the next one; consecutive ones are joined. An unanswered
    question stays unanswered; an answer without a question gets an empty one. Several answers to one question become
    variants of each other.

    Args:
        messages: In any order, except that siblings are in the right one.
        leaf: Id of the last message shown; by default the last message of the newest branch.
        asked_at: Time for messages without one, in seconds since 1970; by default the earliest known time.
        system: System prompt until the first system message.

    Raises:
        ImportRefusedError: There is no question or answer, the messages do not form a tree, a system prompt would be lost, or copies of texts would take too much memory.
    """
    if asked_at is None:
        asked_at = min((message.asked_at for message in messages if message.asked_at is not None), default=None)
    states, drafts = _read_messages(messages, system)
    needed = [draft for draft in drafts if draft.is_needed]
    if not needed:
        raise ImportRefusedError("no_messages")
    if sum(len(draft.system) + draft.size for draft in needed) > _MAX_CHARACTERS:
        raise ImportRefusedError("long_prompts")
    for draft in drafts:  # parents come first
        earliest = draft.parent.asked_at if draft.parent else None
        draft.asked_at = asked_at if draft.asked_at is None and earliest is None else draft.asked_at
        draft.asked_at = max((time for time in (draft.asked_at, earliest) if time is not None), default=None)
    needed.sort(key=lambda draft: draft.asked_at or 0.0)  # stable: parents stay before their children
    conversation = Conversation(tuple(draft.build_turn() for draft in needed))
    last = states[leaf].draft if leaf is not None else None
    if last is None:
        return conversation.with_branch_of(needed[-1].id)
    return replace(conversation, leaf=next(draft.id for draft in reversed(needed) if last in draft.iterate_starts()))


def _read_messages(messages: Sequence[ImportedMessage], system: str) -> tuple[dict[str | None, _State], list[_Draft]]:
    """Return the state after each message, by its id, and all drafts, parents first."""
    parents = {message.parent for message in messages}
    states: dict[str | None, _State] = {None: _State(system=system)}
    drafts, copied = list[_Draft](), 0
    for message in _sort_parents_first(messages):
        before = states[message.parent]
        state = states[message.id] = _read_message(message, before, drafts)
        copied += len(state.pending) + (len(state.system) if state.system is not before.system else 0)
        if copied > _MAX_CHARACTERS:
            raise ImportRefusedError("long_prompts")
        if message.id not in parents:
            if state.pending:
                raise ImportRefusedError("system_last", place=message.place)
            if state.draft:
                state.draft.is_needed, state.draft.system = True, state.system
    return states, drafts


def _sort_parents_first(messages: Sequence[ImportedMessage]) -> list[ImportedMessage]:
    children = dict[str | None, list[ImportedMessage]]()
    ids = {message.id for message in messages}
    if len(ids) < len(messages):
        raise ImportRefusedError("same_id")
    for message in messages:
        if message.parent is not None and message.parent not in ids:
            raise ImportRefusedError("no_parent", place=message.place, id=message.parent)
        children.setdefault(message.parent, []).append(message)
    ordered = list(children.get(None, ()))
    for message in ordered:  # the list grows during the loop
        ordered += children.get(message.id, ())
    if len(ordered) < len(messages):
        reached = {message.id for message in ordered}
        place = next(message.place for message in messages if message.id not in reached)
        raise ImportRefusedError("cycle", place=place)
    return ordered


def _read_message(message: ImportedMessage, state: _State, drafts: list[_Draft]) -> _State:
    """Return the state after a message, and append the draft that it starts or continues to `drafts`."""
    draft = state.draft
    is_unanswered = draft is not None and draft.last is None
    match message.role:
        case "context":
            return replace(state, system=_join(state.system, message.text))
        case "system":
            return replace(state, pending=(*state.pending, message.text)) if message.text.strip() else state
        case "assistant" if draft and (is_unanswered or message.continues):
            if state.pending:
                raise ImportRefusedError("system_between", place=message.place)
            asked_at = draft.asked_at
            if asked_at is None or (is_unanswered and draft.variants):
                asked_at = message.asked_at if message.asked_at is not None else asked_at
            draft.variants += 1
            new = _Draft(draft.parent, draft.question, draft, message, state.system, asked_at)
        case _:
            if draft:
                draft.is_needed = True
            system = _join(*state.pending) if state.pending else state.system
            is_question = message.role == "user"
            question, last = (message, None) if is_question else (None, message)
            new = _Draft(draft, question, None, last, system, message.asked_at)
    drafts.append(new)
    return _State(new, new.system)


def _join(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text.strip())
