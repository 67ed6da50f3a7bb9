"""A conversation as a value: a tree of turns, of which one branch is shown. Pure: every change gives a new one."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

from phi3_ui.chat.types import ContextUse, FinishReason, GenerationParams, Message, Timings, Usage


def new_id() -> str:
    """32 hexadecimal digits, as a turn or a conversation is called everywhere, in its trace too."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class Answer:
    """What a model gave, whatever the ending; `model` is the name of the model that gave it.

    `error` is the code and the values of the UserError that ended it, if one did; then there is no finish reason.
    `context` says how its request was made to fit, where the model's context is known; `load_seconds` is how long it
    waited for the model to be loaded, if it did.
    """

    model: str
    text: str
    usage: Usage | None = None
    timings: Timings | None = None
    finish_reason: FinishReason | None = None
    error: tuple[str, dict[str, str | int]] | None = None
    context: ContextUse | None = None
    load_seconds: float | None = None


@dataclass(frozen=True)
class TurnRequest:
    """When a turn was asked (seconds since 1970, UTC), of which logged model, and what its request held besides the turns."""

    at: float
    model_id: str
    system: str = ""
    params: GenerationParams = field(default_factory=GenerationParams)
    template: str | None = None


@dataclass(frozen=True)
class Feedback:
    """What a person thinks of an answer."""

    good: bool
    comment: str = ""


@dataclass(frozen=True)
class Turn:
    """A question and what came of it. `parent` is the turn it follows; those with the same parent are its versions."""

    question: str
    answer: Answer | None = None
    id: str = field(default_factory=new_id)
    parent: str | None = None
    asked: TurnRequest | None = None
    feedback: Feedback | None = None


@dataclass(frozen=True)
class Conversation:
    """`tree` holds every turn, a parent before its children, oldest first; `leaf` is the last turn of the shown branch."""

    tree: tuple[Turn, ...] = ()
    leaf: str | None = None

    def ask(self, question: str, asked: TurnRequest | None = None) -> "Conversation":
        """With a new turn at the end of the shown branch."""
        return self._with(Turn(question, parent=self.leaf, asked=asked))

    def with_variant(
        self, turn_id: str, question: str | None = None, asked: TurnRequest | None = None
    ) -> "Conversation":
        """With another version of a turn shown: asked otherwise, or again. KeyError if there is no such turn."""
        turn = self.turn(turn_id)
        return self._with(Turn(turn.question if question is None else question, parent=turn.parent, asked=asked))

    def answered(self, answer: Answer, turn_id: str | None = None) -> "Conversation":
        """With a turn's answer set, by default the last shown one's. ValueError if nothing was asked."""
        if (turn_id := turn_id or self.leaf) is None:
            raise ValueError("nothing was asked")
        return self._changed(turn_id, lambda turn: replace(turn, answer=answer))

    def rated(self, turn_id: str, feedback: Feedback | None) -> "Conversation":
        """KeyError if there is no such turn."""
        return self._changed(turn_id, lambda turn: replace(turn, feedback=feedback))

    def undone(self) -> "Conversation":
        """With the last shown turn out of sight; it stays in the tree."""
        return replace(self, leaf=self.turns[-1].parent) if self.turns else self

    def showing(self, turn_id: str) -> "Conversation":
        """With the branch shown that a turn is in, to that branch's newest end. KeyError if there is no such turn."""
        leaf = self.turn(turn_id).id
        while children := self._children.get(leaf):
            leaf = children[-1]
        return replace(self, leaf=leaf)

    def turn(self, turn_id: str) -> Turn:
        return self._by_id[turn_id]

    def versions(self, turn_id: str) -> tuple[str, ...]:
        """The ids of the turns that stand at the place of this one, itself among them, oldest first."""
        return tuple(self._children[self.turn(turn_id).parent])

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        """The shown branch, from its first turn."""
        found, at = list[Turn](), self.leaf
        while at is not None:
            found.append(self.turn(at))
            at = found[-1].parent
        return tuple(reversed(found))

    def messages(self, system: str = "") -> tuple[Message, ...]:
        """What the model is sent. A turn that got no text is left out, unless it is the one now asked."""
        messages = [Message("system", system)] if system.strip() else []
        for turn in self.turns:
            if turn.answer is None:
                messages.append(Message("user", turn.question))
            elif turn.answer.text:
                messages += [Message("user", turn.question), Message("assistant", turn.answer.text)]
        return tuple(messages)

    def truncated_at(self, turn_id: str) -> "Conversation":
        """The turns that led to this one, and itself without its answer, as it was asked. KeyError if it is none."""
        asked = replace(self, leaf=self.turn(turn_id).id)
        return Conversation(
            tuple(replace(turn, answer=None) if turn.id == turn_id else turn for turn in asked.turns), turn_id
        )

    @property
    def title(self) -> str:
        """The first question, on one line; empty if there is none."""
        return " ".join(self.tree[0].question.split()) if self.tree else ""

    @property
    def undone_turn(self) -> str | None:
        """The id of the newest turn that follows the shown branch and is out of sight; None if there is none."""
        following = self._children.get(self.leaf)
        return following[-1] if following else None

    @property
    def last_answer(self) -> Answer | None:
        return next((turn.answer for turn in reversed(self.turns) if turn.answer), None)

    @property
    def first_seen(self) -> int:
        """The index of the first shown turn that was in the last answer's prompt."""
        answer = self.last_answer
        left_out = answer.context.left_out if answer and answer.context else 0
        with_text = [at for at, turn in enumerate(self.turns) if turn.answer and turn.answer.text]
        return with_text[left_out - 1] + 1 if left_out else 0

    @property
    def usage(self) -> Usage | None:
        """The sum over all shown answers whose usage is known; None if it is of none."""
        known = [turn.answer.usage for turn in self.turns if turn.answer and turn.answer.usage]
        return sum(known, Usage(0, 0)) if known else None

    @cached_property
    def _by_id(self) -> dict[str, Turn]:
        return {turn.id: turn for turn in self.tree}

    @cached_property
    def _children(self) -> dict[str | None, list[str]]:
        found: dict[str | None, list[str]] = {}
        for turn in self.tree:
            found.setdefault(turn.parent, []).append(turn.id)
        return found

    def _with(self, turn: Turn) -> "Conversation":
        return Conversation((*self.tree, turn), turn.id)

    def _changed(self, turn_id: str, change: Callable[[Turn], Turn]) -> "Conversation":
        changed = change(self.turn(turn_id))
        return replace(self, tree=tuple(changed if turn.id == turn_id else turn for turn in self.tree))
