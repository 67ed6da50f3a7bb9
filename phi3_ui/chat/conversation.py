"""A conversation as a value. Pure: every change gives a new one."""

from dataclasses import dataclass, replace

from phi3_ui.chat.types import ContextUse, FinishReason, Message, Timings, Usage


@dataclass(frozen=True)
class Answer:
    """What a model gave, whatever the ending; `model` is the name of the model that gave it.

    `error` is the code and the values of the UserError that ended it, if one did; then there is no finish reason.
    `context` says how its request was made to fit, where the model's context is known.
    """

    model: str
    text: str
    usage: Usage | None = None
    timings: Timings | None = None
    finish_reason: FinishReason | None = None
    error: tuple[str, dict[str, str | int]] | None = None
    context: ContextUse | None = None


@dataclass(frozen=True)
class Turn:
    question: str
    answer: Answer | None = None


@dataclass(frozen=True)
class Conversation:
    turns: tuple[Turn, ...] = ()

    def ask(self, question: str) -> "Conversation":
        return Conversation((*self.turns, Turn(question)))

    def answered(self, answer: Answer) -> "Conversation":
        """With the last turn's answer set. ValueError if nothing was asked."""
        if not self.turns:
            raise ValueError("nothing was asked")
        return Conversation((*self.turns[:-1], replace(self.turns[-1], answer=answer)))

    def messages(self, system: str = "") -> tuple[Message, ...]:
        """What the model is sent. A turn that got no text is left out, unless it is the one now asked."""
        messages = [Message("system", system)] if system.strip() else []
        for turn in self.turns:
            if turn.answer is None:
                messages.append(Message("user", turn.question))
            elif turn.answer.text:
                messages += [Message("user", turn.question), Message("assistant", turn.answer.text)]
        return tuple(messages)

    @property
    def title(self) -> str:
        """The first question, on one line; empty if there is none."""
        return " ".join(self.turns[0].question.split()) if self.turns else ""

    @property
    def last_answer(self) -> Answer | None:
        return next((turn.answer for turn in reversed(self.turns) if turn.answer), None)

    @property
    def first_seen(self) -> int:
        """The index of the first turn that was in the last answer's prompt."""
        answer = self.last_answer
        left_out = answer.context.left_out if answer and answer.context else 0
        with_text = [at for at, turn in enumerate(self.turns) if turn.answer and turn.answer.text]
        return with_text[left_out - 1] + 1 if left_out else 0

    @property
    def usage(self) -> Usage | None:
        """The sum over all answers whose usage is known; None if it is of none."""
        known = [turn.answer.usage for turn in self.turns if turn.answer and turn.answer.usage]
        return sum(known, Usage(0, 0)) if known else None
