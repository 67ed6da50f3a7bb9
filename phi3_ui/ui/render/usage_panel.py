"""The usage tab: the last answer, the conversation, and the speed of its answers."""

from collections.abc import Callable, Iterator
from typing import Any

from markupsafe import Markup

from phi3_ui.chat.conversation import Answer, Conversation, Turn
from phi3_ui.chat.types import Usage
from phi3_ui.i18n.translate import format_number, format_rate, format_seconds, tr
from phi3_ui.store.conversations.traces import trace_id_for
from phi3_ui.ui.render.labels import find_engine
from phi3_ui.ui.render.mlflow_links import Link
from phi3_ui.ui.render.templating import render

_SPEEDS = 24  # answers; as many bars fit the panel


def render_usage(  # noqa: PLR0913  # the parts of the tab
    language: str,
    conversation: Conversation,
    answers: int = 0,
    trace: Callable[[Turn], Link | None] = lambda _: None,
    chat_link: str = "",
    evaluations_off: str = "",
) -> Markup:
    """Render the tab.

    Args:
        language: Language of the texts.
        conversation: The shown conversation.
        answers: Number of answers in all chats of the user.
        trace: Returns the link to a turn's trace, if there is one.
        chat_link: The link to the traces of the conversation, if there is one.
        evaluations_off: Why the evaluations cannot be opened; empty if they can.
    """
    turn = next((turn for turn in reversed(conversation.turns) if turn.answer), None)
    link = trace(turn) if turn else None
    return render(
        "usage.html",
        language,
        answer=_answer(language, turn.answer) if turn and turn.answer else None,
        facts=_conversation(language, conversation),
        is_measured=any(turn.answer and (turn.answer.usage or turn.answer.timings) for turn in conversation.turns),
        speeds=_speeds(language, conversation),
        details=_details(language, conversation),
        columns=[tr(language, "column.answer"), tr(language, "column.conversation")],
        answers=answers,
        evaluations_off=evaluations_off,
        trace={"url": link.url, "id": f"{trace_id_for(turn.id)[:7]}…"} if link and turn else None,
        chat_link=chat_link,
    )


def usage_parts(usage: Usage | None) -> list[tuple[str, str, int | None]]:
    """Return the parts of an answer's tokens: text key of the name, colour, and count, None if unknown."""
    cached = usage.cached_tokens if usage else None
    prompt = usage.prompt_tokens if usage else None
    new = prompt - cached if prompt is not None and cached is not None else prompt
    return [
        ("usage.cached", "--seg-cached", cached),
        ("usage.prompt" if cached is None else "usage.new", "--seg-prompt", new),
        ("usage.completion", "--seg-answer", usage.completion_tokens if usage else None),
    ]


def _answer(language: str, answer: Answer) -> dict[str, Any]:
    """Return the tiles and the parts of the bar."""
    rate = answer.timings.tokens_per_second if answer.timings else None
    first = answer.timings.time_to_first_token if answer.timings else None
    total = answer.usage.total_tokens if answer.usage else None
    return {
        "tiles": [
            (tr(language, "tile.rate"), None if rate is None else format_rate(language, rate)),
            (tr(language, "tile.first"), None if first is None else format_seconds(language, first)),
            (tr(language, "tile.tokens"), _number(language, total)),
        ],
        "parts": [
            {"name": tr(language, key), "color": color, "share": count or 0, "count": _number(language, count)}
            for key, color, count in usage_parts(answer.usage)
        ],
    }


def _conversation(language: str, conversation: Conversation) -> list[tuple[str, str | None]]:
    answers = sum(turn.answer is not None for turn in conversation.turns)
    usage, last = conversation.total_usage, conversation.last_answer
    context = None
    if last and last.context:
        used = last.context.prompt_tokens + (last.usage.completion_tokens if last.usage else 0)
        context = tr(language, "usage.context", used=used, limit=last.context.limit)
    return [
        (tr(language, "usage.answers"), format_number(language, answers)),
        (tr(language, "row.prompt"), _number(language, usage.prompt_tokens if usage else None)),
        (tr(language, "row.completion"), _number(language, usage.completion_tokens if usage else None)),
        (tr(language, "usage.context_used"), context),
    ]


def _speeds(language: str, conversation: Conversation) -> dict[str, Any]:
    """Return a bar per answer of known rate, proportional to the rate, in the colour of its engine."""
    speeds = [
        (number, turn.answer.model, turn.answer.timings.tokens_per_second)
        for number, turn in enumerate(conversation.turns, 1)
        if turn.answer and turn.answer.timings and turn.answer.timings.tokens_per_second is not None
    ][-_SPEEDS:]
    highest = max((rate for _, _, rate in speeds), default=0.0) or 1.0
    bars = [
        {
            "engine": find_engine(model) or "",
            "height": f"{rate / highest:.1%}",
            "label": f"{number}. {model}: {tr(language, 'rate', rate=format_rate(language, rate))}",
        }
        for number, model, rate in speeds
    ]
    engines = dict.fromkeys(bar["engine"] for bar in bars if bar["engine"])
    return {"bars": bars, "engines": [(name, tr(language, f"engine.{name}")) for name in engines]}


def _details(language: str, conversation: Conversation) -> list[tuple[str, str | None, str | None]]:
    """Return the rows of the table: the last answer beside the whole conversation."""
    answer = conversation.last_answer
    return (
        [*_token_rows(language, answer.usage, conversation.total_usage), *_answer_rows(language, answer)]
        if answer
        else []
    )


def _token_rows(
    language: str, answer: Usage | None, total: Usage | None
) -> Iterator[tuple[str, str | None, str | None]]:
    for key, field in (
        ("prompt", "prompt_tokens"),
        ("cached", "cached_tokens"),
        ("completion", "completion_tokens"),
        ("total", "total_tokens"),
    ):
        one, all_ = (getattr(usage, field) if usage else None for usage in (answer, total))
        yield tr(language, f"row.{key}"), _number(language, one), _number(language, all_)


def _answer_rows(language: str, answer: Answer) -> Iterator[tuple[str, str | None, str]]:
    timings = answer.timings
    rate = timings.tokens_per_second if timings else None
    durations = [
        ("ttft", timings.time_to_first_token if timings else None),
        ("seconds", timings.seconds if timings else None),
        ("load", answer.load_seconds),
    ]
    for key, seconds in durations:
        if key != "load" or seconds is not None:
            yield tr(language, f"row.{key}"), None if seconds is None else format_seconds(language, seconds), ""
    yield tr(language, "row.rate"), None if rate is None else format_rate(language, rate), ""
    yield tr(language, "row.finish"), tr(language, f"finish.{answer.finish_reason or 'error'}"), ""


def _number(language: str, value: float | None, decimals: int = 0) -> str | None:
    return None if value is None else format_number(language, value, decimals)
