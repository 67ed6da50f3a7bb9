"""Renders messages as the prompt a model was trained on, with the model's own template; user text stays text."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime

from models.chat_template import TemplateError, TemplateLimitError, render_chat_template
from phi3_ui.chat.types import Message

SEPARATOR = "\u2063"
"""An invisible character that breaks text that looks like a control token; the ONNX wrapper encodes the parts separately."""

_LINE_BREAKS = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"  # as str.splitlines has them
_FILLER = rf"(?:[^\w:\uff1a{_LINE_BREAKS}]|_)*"

TemplateMessages = Sequence[Mapping[str, str]]
"""Messages for chat templates: dicts with `role` and `content`."""

_template_date: ContextVar[datetime | None] = ContextVar("template_date", default=None)


class SystemPromptError(TemplateError):
    """The template rejects only the system prompt: without it, the conversation can be rendered."""


@dataclass(frozen=True)
class PromptFormat:
    """The prompt format that a model declares."""

    chat_template: str
    """The Jinja template, written for transformers' environment."""

    special_tokens: tuple[str, ...] = ()
    bos_token: str = ""
    eos_token: str = ""

    other_tokens: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Additional tokens that the template may write, by name."""

    answer_markers: tuple[str, ...] = ()
    """Special tokens that the template looks for in answers, so that they are not broken there."""

    turn_labels: tuple[str, ...] = ()
    """In a format without special tokens, the words that begin a turn when followed by a colon at the start of a line."""

    def render(self, messages: Sequence[Message], prefix: str = "") -> str:
        """Return the prompt up to the start of the assistant's answer, followed by `prefix`, its beginning. Raises TemplateError."""
        safe_messages = self._make_safe(messages)
        tokens = {**self.other_tokens, "bos_token": self.bos_token, "eos_token": self.eos_token}
        tokens = {name: text for name, text in tokens.items() if text}  # templates test which ones are defined

        def render(messages: TemplateMessages) -> str:
            return render_chat_template(self.chat_template, messages, tokens, now=_template_date.get())

        return render_or_explain(render, safe_messages) + self.safe_answer(prefix)

    def safe_answer(self, text: str) -> str:
        """Return an answer in a form that is safe in a prompt."""
        return self._make_safe([Message("assistant", text)])[0]["content"]

    def _make_safe(self, messages: Sequence[Message]) -> list[dict[str, str]]:
        doubled = [replace(message, content=message.content.replace(SEPARATOR, 2 * SEPARATOR)) for message in messages]
        safe_messages = neutralise_messages(doubled, self.special_tokens, self.answer_markers)
        return [{**one, "content": break_turn_labels(one["content"], self.turn_labels)} for one in safe_messages]


def render_or_explain(render: Callable[[TemplateMessages], str], messages: TemplateMessages) -> str:
    """Return `render(messages)`. Raises TemplateError, or SystemPromptError if only the system prompt is rejected.

    `render` may raise anything. A template may reject a system prompt with a message that does not mention it, such as that
    roles must alternate.
    """
    # Filter first: a template may change the list.
    questions = [message for message in messages if message["role"] != "system"]
    try:
        return render(messages)
    except TemplateLimitError:
        raise  # a retry would take just as long
    except Exception as error:  # a template is a program and may fail in any way
        kind = SystemPromptError if len(questions) < len(messages) and _can_render(render, questions) else TemplateError
        raise kind(str(error) or type(error).__name__) from error


def _can_render(render: Callable[[TemplateMessages], str], messages: TemplateMessages) -> bool:
    try:
        render(messages)
    except Exception:  # noqa: BLE001 (the caller reports the error of the whole conversation)
        return False
    return True


def neutralise_messages(
    messages: Sequence[Message], special_tokens: Sequence[str], answer_markers: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Return the messages for a chat template, with special tokens broken, except for `answer_markers` in answers."""
    in_answers = [token for token in special_tokens if token not in answer_markers]
    return [
        {
            "role": message.role,
            "content": neutralise(message.content, in_answers if message.role == "assistant" else special_tokens),
        }
        for message in messages
    ]


def neutralise(text: str, special_tokens: Sequence[str]) -> str:
    """Return `text` with SEPARATOR after the first character of each special token in it, so that none is left.

    Tokens of a single character cannot be broken and are left unchanged. So is white space: some vocabularies, such as Gemma's,
    list runs of it among their added tokens.
    """
    starts = "|".join(re.escape(token) for token in special_tokens if len(token) > 1 and not token.isspace())
    if not starts:
        return text
    return re.sub(f"(?=(?:{starts}))(.)", rf"\1{SEPARATOR}", text, flags=re.DOTALL)


def break_turn_labels(text: str, labels: Sequence[str]) -> str:
    """Return `text` with SEPARATOR after the first character of each label that a model could mistake for the start of a turn.

    That includes labels in upper or lower case, surrounded by white space and punctuation, as in "**USER** :", and after any
    kind of line break.
    """
    if not labels:
        return text
    words = "|".join(map(re.escape, labels))
    # Each character at the start of a line is tried only once, so the time is linear.
    label = rf"((?:\A|[{_LINE_BREAKS}]){_FILLER}(?=(?:{words}){_FILLER}[:\uff1a])\w)"
    return re.sub(label, rf"\1{SEPARATOR}", text, flags=re.IGNORECASE)


@contextlib.contextmanager
def frozen_template_date(timestamp: float) -> Iterator[None]:
    """Make templates write the local date of `timestamp` (seconds since 1970, UTC) during the block."""
    token = _template_date.set(datetime.fromtimestamp(timestamp))
    try:
        yield
    finally:
        _template_date.reset(token)
