"""The usage table: the last answer beside the whole conversation."""

from collections.abc import Iterator

from markupsafe import Markup

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.types import Usage
from phi3_ui.i18n.translate import format_number, format_seconds, tr
from phi3_ui.ui.render.notices import render_hint
from phi3_ui.ui.render.templating import render


def render_usage(language: str, conversation: Conversation) -> Markup:
    """Render the usage table, or a hint before the first answer."""
    answer = conversation.last_answer
    if answer is None:
        return render_hint(tr(language, "no_usage"))
    columns = [tr(language, "column.answer"), tr(language, "column.conversation")]
    rows = [*_token_rows(language, answer.usage, conversation.total_usage), *_answer_rows(language, answer)]
    return render("usage_table.html", language, columns=columns, rows=rows)


def _token_rows(language: str, answer: Usage | None, total: Usage | None) -> Iterator[tuple[str, str, str]]:
    for key, field in (
        ("prompt", "prompt_tokens"),
        ("cached", "cached_tokens"),
        ("completion", "completion_tokens"),
        ("total", "total_tokens"),
    ):
        counts = [getattr(usage, field) if usage else None for usage in (answer, total)]
        one, all_ = (tr(language, "unknown") if count is None else format_number(language, count) for count in counts)
        yield tr(language, f"row.{key}"), one, all_


def _answer_rows(language: str, answer: Answer) -> Iterator[tuple[str, str, str]]:
    unknown = tr(language, "unknown")
    first = answer.timings.time_to_first_token if answer.timings else None
    rate = answer.timings.tokens_per_second if answer.timings else None
    yield tr(language, "row.ttft"), unknown if first is None else format_seconds(language, first), ""
    yield tr(language, "row.rate"), unknown if rate is None else format_number(language, rate, 1), ""
    yield tr(language, "row.finish"), tr(language, f"finish.{answer.finish_reason or 'error'}"), ""
