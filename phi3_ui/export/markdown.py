"""Convert a conversation to Markdown."""

import re
from collections.abc import Iterator

from phi3_ui.chat.conversation import Answer, Conversation, Feedback, Turn
from phi3_ui.errors import error_from_record

_SPECIAL_CHARACTERS = re.compile(r"[\\`*_\[\]<>&~$|#]")
_HTML_START = re.compile(r"<[A-Za-z/!?]")
_LINE_END = re.compile(r"\r\n|\r|\n")
_NO_TEXT = "*No text*"
_ENDINGS = {
    "length": "cut at the token limit",
    "cancelled": "stopped by the user",
    "timeout": "stopped at the time limit",
}


def to_markdown(conversation: Conversation, title: str) -> str:
    """Return the shown branch: under headings each question as typed and each answer as a block quote, then metrics as a list.

    The headings are in English. The text of a chat cannot add headings. Lone surrogates become "?".
    """
    blocks = [f"# {_escape(title) or 'Chat'}"]
    for number, turn in enumerate(conversation.turns, 1):
        blocks += _render_turn(number, turn)
    text = "\n\n".join(blocks) + "\n"
    return text.encode(errors="replace").decode()


def _render_turn(number: int, turn: Turn) -> Iterator[str]:
    yield f"## Question {number}"
    yield fence(turn.question) if turn.question.strip() else _NO_TEXT
    if turn.answer:
        model = _escape(turn.answer.model)
        yield f"### Answer {number}, {model}" if model else f"### Answer {number}"
        yield _quote(turn.answer.text)
    items = [*_list_metrics(turn.answer), *_list_feedback(turn.feedback)]
    if items:
        yield "\n".join(f"- {item}" for item in items)


def _list_metrics(answer: Answer | None) -> Iterator[str]:
    if answer is None:
        yield "Not answered"
        return
    if usage := answer.usage:
        cached = "" if usage.cached_tokens is None else f" ({usage.cached_tokens:,} cached)"
        yield f"Tokens: {usage.prompt_tokens:,} prompt{cached}, {usage.completion_tokens:,} completion"
    if timings := answer.timings:
        if timings.time_to_first_token is not None:
            yield f"Time to first token: {timings.time_to_first_token:.2f} s"
        if timings.tokens_per_second is not None:
            yield f"Speed: {timings.tokens_per_second:.1f} tokens/s"
    if answer.error:
        yield f"Ended: {_escape(str(error_from_record(*answer.error)))}"
    elif answer.finish_reason in _ENDINGS:
        yield f"Ended: {_ENDINGS[answer.finish_reason]}"


def _list_feedback(feedback: Feedback | None) -> Iterator[str]:
    if feedback:
        comment = _escape(feedback.comment)
        yield f"Feedback: {'good' if feedback.good else 'bad'}{f', “{comment}”' if comment else ''}"


def _quote(text: str) -> str:
    """Return a text with its own Markdown in a block quote, which no heading, open fence or list in it can end.

    Raw HTML could, since `<!--` hides everything after it. A text that may contain HTML is fenced, and shown as typed.
    """
    if not text.strip():
        return _NO_TEXT
    if _HTML_START.search(text):
        return fence(text)
    return "\n".join(f"> {line}" if line else ">" for line in _LINE_END.split(text))


def fence(text: str, language: str = "") -> str:
    """Return a text unchanged, in a code block that nothing in it can end."""
    marks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return "\n".join([f"{marks}{language}", *_LINE_END.split(text), marks])


def _escape(text: str) -> str:
    """Return a text on one line, with its Markdown escaped."""
    return _SPECIAL_CHARACTERS.sub(r"\\\g<0>", " ".join(text.split()))
