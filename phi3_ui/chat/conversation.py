"""A conversation as an immutable value: a tree of turns, one branch of which is shown. Every change returns a new value."""

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

from phi3_ui.chat.comparison import RoundPlace
from phi3_ui.chat.types import ChatRequest, ContextUsage, FinishReason, GenerationParams, Message, Timings, Usage

_LINE_BREAK = re.compile(r"[\r\n]")
_ATTACHED_FILE = re.compile(r"File: ([^\n]+)\n(`{3,})[\w+#-]*\n(?:.*?\n)??\2(?:\n\n|\Z)", re.DOTALL)
"""An attached file, as static/attached_files.js writes it at the beginning of a question."""
_MAX_TITLE = 1000  # characters of a question; each rendering of the chat list sends all titles


def new_id() -> str:
    """Return a random id of 32 hexadecimal digits for a turn or a conversation, also used in their traces."""
    return uuid.uuid4().hex


def make_title(question: str) -> str:
    """Return the beginning of a question on one line, without tabs; the names of attached files if nothing was typed."""
    files, typed = split_files(question)
    # A single pattern with the white space around line breaks would take quadratic time, while no other thread runs.
    text = typed.strip() or ", ".join(name for name, _ in files)
    lines = map(str.strip, _LINE_BREAK.split(text[:_MAX_TITLE]))
    return " ".join(filter(None, lines)).replace("\t", " ")


def split_files(question: str) -> tuple[list[tuple[str, str]], str]:
    """Return the attached files of a question, each as its name and its block, and the typed text."""
    files, end = list[tuple[str, str]](), 0
    while found := _ATTACHED_FILE.match(question, end):
        files.append((found[1], found[0].strip("\n")))
        end = found.end()
    return files, question[end:]


@dataclass(frozen=True)
class Answer:
    """A model's answer to one turn, however it ended."""

    model: str
    """Display name of the model."""
    text: str
    """The complete text, or the text so far when the answer was stopped or failed."""
    usage: Usage | None = None
    """Token counts; None if the model does not report them."""
    timings: Timings | None = None
    finish_reason: FinishReason | None = None
    """None if the answer ended in an error."""
    error: tuple[str, dict[str, str | int]] | None = None
    """Code and values of the UserError that ended the answer, if any."""
    context: ContextUsage | None = None
    """How the request was fitted to the model's context; None if the context length is unknown."""
    load_seconds: float | None = None
    """Seconds the turn waited for the model to load; None if it was already loaded."""
    ended_model: bool = False
    """See Completed."""


@dataclass(frozen=True)
class TurnRequest:
    """A turn's request to a model, without its messages."""

    asked_at: float
    """Seconds since the epoch, UTC."""
    model_id: str
    """Id of the logged model; empty if unknown, as in an imported chat."""
    system: str = ""
    """System prompt; blank for none."""
    params: GenerationParams = field(default_factory=GenerationParams)
    template: str | None = None
    """Key of the prompt template picked for a model that declares none."""
    round: RoundPlace | None = None
    """The turn's place in a comparison; None if it is not part of one."""
    prefix: str = ""
    """The beginning of the answer, if the model was asked to continue it; the answer's text and the prompt's tokens include it."""
    continues: bool = False
    """Whether the app wrote the question, to request the rest of the previous answer from a model that does not accept a prefix."""


@dataclass(frozen=True)
class Feedback:
    """A user's rating of an answer."""

    good: bool
    comment: str = ""


@dataclass(frozen=True)
class Turn:
    """A question with its answer."""

    question: str
    answer: Answer | None = None
    """None until the answer has ended."""
    id: str = field(default_factory=new_id)
    parent: str | None = None
    """Id of the preceding turn; None for a first turn. Turns with the same parent are variants of each other."""
    request: TurnRequest | None = None
    """None if unknown, as in an imported chat."""
    feedback: Feedback | None = None


@dataclass(frozen=True)
class Conversation:
    """A tree of turns and the branch that is shown."""

    tree: tuple[Turn, ...] = ()
    """Every turn, oldest first, parents before their children."""
    leaf: str | None = None
    """Id of the last turn of the shown branch; None if the branch is empty."""

    def with_question(self, question: str, request: TurnRequest | None = None) -> "Conversation":
        """Append a turn to the shown branch."""
        return self._with(Turn(question, parent=self.leaf, request=request))

    def with_variant(
        self, turn_id: str, question: str | None = None, request: TurnRequest | None = None
    ) -> "Conversation":
        """Add and show a variant of a turn, with another question or, by default, the same one.

        Raises:
            KeyError: There is no such turn.
        """
        turn = self.get_turn(turn_id)
        return self._with(Turn(turn.question if question is None else question, parent=turn.parent, request=request))

    def with_answer(self, answer: Answer, turn_id: str | None = None) -> "Conversation":
        """Set the answer of a turn, by default of the last shown one.

        Raises:
            KeyError: There is no such turn.
            ValueError: No turn is shown and none was named.
        """
        if (turn_id := turn_id or self.leaf) is None:
            raise ValueError("there is no turn to answer")
        return self._with_changed(turn_id, lambda turn: replace(turn, answer=answer))

    def with_feedback(self, turn_id: str, feedback: Feedback | None) -> "Conversation":
        """Set or, with None, clear the feedback of a turn.

        Raises:
            KeyError: There is no such turn.
        """
        return self._with_changed(turn_id, lambda turn: replace(turn, feedback=feedback))

    def without_last_turn(self) -> "Conversation":
        """Hide the last shown turn; it stays in the tree."""
        return replace(self, leaf=self.turns[-1].parent) if self.turns else self

    def with_branch_of(self, turn_id: str) -> "Conversation":
        """Show the branch that contains a turn, down to its newest leaf.

        Raises:
            KeyError: There is no such turn.
        """
        leaf = self.get_turn(turn_id).id
        while children := self._children.get(leaf):
            leaf = children[-1]
        return replace(self, leaf=leaf)

    def truncated_at(self, turn_id: str) -> "Conversation":
        """Return the branch up to a turn, with the turn itself but without its answer.

        Raises:
            KeyError: There is no such turn.
        """
        branch = replace(self, leaf=self.get_turn(turn_id).id).turns
        return Conversation(
            tuple(replace(turn, answer=None) if turn.id == turn_id else turn for turn in branch), turn_id
        )

    def get_turn(self, turn_id: str) -> Turn:
        """Return the turn with this id, shown or not.

        Raises:
            KeyError: There is no such turn.
        """
        return self._by_id[turn_id]

    def variant_ids(self, turn_id: str) -> tuple[str, ...]:
        """Return the ids of a turn and its variants, oldest first.

        Raises:
            KeyError: There is no such turn.
        """
        return tuple(self._children[self.get_turn(turn_id).parent])

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        """The shown branch, first turn first."""
        branch, turn_id = list[Turn](), self.leaf
        while turn_id is not None:
            branch.append(self.get_turn(turn_id))
            turn_id = branch[-1].parent
        return tuple(reversed(branch))

    def build_messages(self, system: str = "") -> tuple[Message, ...]:
        """Return the messages to send to a model. Turns whose answer has no text are omitted; the pending one is included."""
        messages = [Message("system", system)] if system.strip() else []
        for turn in self.turns:
            if turn.answer is None:
                messages.append(Message("user", turn.question))
            elif turn.answer.text:
                messages += [Message("user", turn.question), Message("assistant", turn.answer.text)]
        return tuple(messages)

    def build_request(self, time_limit: float | None = None) -> ChatRequest:
        """Return the request of the last shown turn; see ChatRequest for `time_limit`.

        Raises:
            ValueError: The last shown turn has no request, or no turn is shown.
        """
        if not self.turns or (request := self.turns[-1].request) is None:
            raise ValueError("the last turn has no request")
        messages = self.build_messages(request.system)
        return ChatRequest(messages, request.params, request.template, time_limit, prefix=request.prefix)

    @property
    def title(self) -> str:
        """The first question on one line; empty if there is none."""
        return make_title(self.tree[0].question) if self.tree else ""

    @property
    def redo_turn_id(self) -> str | None:
        """Id of the newest hidden turn that follows the shown branch; None if there is none."""
        following = self._children.get(self.leaf)
        return following[-1] if following else None

    @property
    def pending(self) -> Turn | None:
        """The last turn of the shown branch, if it has no answer yet."""
        return self.turns[-1] if self.turns and self.turns[-1].answer is None else None

    @property
    def last_answer(self) -> Answer | None:
        """The last answer of the shown branch."""
        return next((turn.answer for turn in reversed(self.turns) if turn.answer), None)

    @property
    def first_turn_in_context(self) -> int:
        """Index of the first shown turn that was part of the last answer's prompt."""
        answer = self.last_answer
        omitted = answer.context.omitted_turns if answer and answer.context else 0
        with_text = [index for index, turn in enumerate(self.turns) if turn.answer and turn.answer.text]
        return with_text[omitted - 1] + 1 if omitted else 0

    @property
    def total_usage(self) -> Usage | None:
        """Sum over all shown answers with known usage; None if there are none."""
        known = [turn.answer.usage for turn in self.turns if turn.answer and turn.answer.usage]
        return sum(known, Usage(0, 0)) if known else None

    @cached_property
    def _by_id(self) -> dict[str, Turn]:
        return {turn.id: turn for turn in self.tree}

    @cached_property
    def _children(self) -> dict[str | None, list[str]]:
        children: dict[str | None, list[str]] = {}
        for turn in self.tree:
            children.setdefault(turn.parent, []).append(turn.id)
        return children

    def _with(self, turn: Turn) -> "Conversation":
        return Conversation((*self.tree, turn), turn.id)

    def _with_changed(self, turn_id: str, change: Callable[[Turn], Turn]) -> "Conversation":
        changed = change(self.get_turn(turn_id))
        return replace(self, tree=tuple(changed if turn.id == turn_id else turn for turn in self.tree))
