"""A conversation as Markdown, for people."""

import re
from collections.abc import Iterator

from phi3_ui.chat.conversation import Answer, Conversation, Feedback, Turn
from phi3_ui.errors import error_from_record

_MARKS = re.compile(r"[\\`*_\[\]<>&~$|#]")
_HTML = re.compile(r"<[A-Za-z/!?]")
_ENDED = {
    "length": "cut at its limit of tokens",
    "cancelled": "stopped by the person",
    "timeout": "stopped at the time limit",
}


def to_markdown(conversation: Conversation, title: str) -> str:
    """The shown branch: each question and its answer under a heading, quoted, then the answer's figures as a list.

    In English. Whatever the texts hold, the headings of the file's first level are only these. A lone surrogate is "?".
    """
    blocks = [f"# {_line(title) or 'Chat'}"]
    for number, turn in enumerate(conversation.turns, 1):
        blocks += _turn(number, turn)
    text = "\n\n".join(blocks) + "\n"
    return text.encode(errors="replace").decode()


def _turn(number: int, turn: Turn) -> Iterator[str]:
    yield f"## Question {number}"
    yield _quoted(turn.question)
    if turn.answer:
        model = _line(turn.answer.model)
        yield f"### Answer {number}, {model}" if model else f"### Answer {number}"
        yield _quoted(turn.answer.text)
    facts = [*_figures(turn.answer), *_feedback(turn.feedback)]
    if facts:
        yield "\n".join(f"- {fact}" for fact in facts)


def _figures(answer: Answer | None) -> Iterator[str]:
    if answer is None:
        yield "Not answered"
        return
    if usage := answer.usage:
        cached = "" if usage.cached_tokens is None else f" ({usage.cached_tokens:,} of them read before)"
        yield f"Tokens: {usage.prompt_tokens:,} of the prompt{cached}, {usage.completion_tokens:,} of the answer"
    if timings := answer.timings:
        if timings.time_to_first_token is not None:
            yield f"Time to first token: {timings.time_to_first_token:.2f} s"
        if timings.tokens_per_second is not None:
            yield f"Speed: {timings.tokens_per_second:.1f} tokens/s"
    if answer.error:
        yield f"Ended: {_line(str(error_from_record(*answer.error)))}"
    elif answer.finish_reason in _ENDED:
        yield f"Ended: {_ENDED[answer.finish_reason]}"


def _feedback(feedback: Feedback | None) -> Iterator[str]:
    if feedback:
        comment = _line(feedback.comment)
        yield f"Feedback: {'good' if feedback.good else 'bad'}{f', “{comment}”' if comment else ''}"


def _quoted(text: str) -> str:
    """A text with its own Markdown, in a quote, which nothing in it can end: no heading, no open fence, no list.

    Raw HTML could: `<!--` hides all that follows. A text that may hold some is shown in a fence, letter by letter.
    """
    if not text.strip():
        return "*No text*"
    lines = re.split(r"\r\n|\r|\n", text)
    if _HTML.search(text):
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
        return "\n".join([fence, *lines, fence])
    return "\n".join(f"> {line}" if line else ">" for line in lines)


def _line(text: str) -> str:
    """A text as plain words of one line."""
    return _MARKS.sub(r"\\\g<0>", " ".join(text.split()))
