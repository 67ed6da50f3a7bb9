"""All my usage: charts and totals over a user's chats, and charts of the shown one."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from statistics import median
from typing import TypeVar

from markupsafe import Markup

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.i18n.translate import format_date, format_day, format_number, format_rate, format_seconds, tr
from phi3_ui.store.conversations.history import TurnMetrics
from phi3_ui.ui.render.charts import Bar, BarChart, Series, render_bar_chart, render_legend, render_measures
from phi3_ui.ui.render.labels import find_engine
from phi3_ui.ui.render.templating import render
from phi3_ui.ui.render.usage_panel import usage_parts

# Only days on which a question was asked are counted.
_CHART_TURNS, _CHART_DAYS, _TABLE_DAYS = 20, 14, 7
_FIRST_COLOR, _COLORS = 3, 6  # named --series-3 and so on in static/usage.css; the first two belong to engines

_Key = TypeVar("_Key", str, date)
_Models = Mapping[tuple[str, str], Series]
"""By the model's name and id."""
_Measure = Callable[[Answer, Series], dict[Series, float]]
"""Returns the values of an answer's bar, given the series of its model."""


def render_usage_overview(language: str, metrics: Sequence[TurnMetrics], conversation: Conversation) -> Markup:
    """Render the view: `metrics` of all the user's turns, and the conversation that is shown."""
    models = _find_models(language, metrics, conversation)
    shown = set(models.values()) if any(name for name, _ in models) else set()  # a lone "unknown" explains nothing
    return render(
        "usage_overview.html",
        language,
        models=render_legend(language, sorted(shown, key=lambda series: series.name)),
        all_charts=_charts_of_all(language, metrics, models),
        kinds=render_legend(language, [Series(tr(language, key), color) for key, color in _KINDS]),
        chat_charts=_charts_of_chat(language, conversation, models),
        totals=_totals(language, metrics, models),
    )


_KINDS = (
    ("usage.cached", "--seg-cached"),
    ("usage.new", "--seg-prompt"),
    ("usage.completion", "--seg-answer"),
)


def _charts_of_all(language: str, metrics: Sequence[TurnMetrics], models: _Models) -> Markup:
    days = list(_group(metrics, _day).items())[-_CHART_DAYS:]
    by_day = BarChart(
        title=tr(language, "usage.all.tokens"),
        x_title=tr(language, "usage.day"),
        y_title=tr(language, "usage.tokens"),
        bars=[
            Bar(format_day(language, day), _sum_tokens(turns, models), format_date(language, day))
            for day, turns in days
        ],
    )
    by_model = _group(metrics, lambda turn: models[_model_key(turn)].name)
    first = {name: [turn.time_to_first_token for turn in turns] for name, turns in by_model.items()}
    rate = {name: [turn.tokens_per_second for turn in turns] for name, turns in by_model.items()}
    named = {series.name: series for series in models.values()}
    return Markup("").join(
        [
            render_bar_chart(language, by_day),
            _medians(language, "usage.all.first", first, named, lambda value: format_seconds(language, value)),
            _medians(
                language,
                "usage.all.rate",
                rate,
                named,
                lambda value: tr(language, "rate", rate=format_rate(language, value)),
            ),
        ]
    )


def _medians(
    language: str,
    title: str,
    values: Mapping[str, list[float | None]],
    models: Mapping[str, Series],
    write: Callable[[float], str],
) -> Markup:
    """Render a bar per model with the median of its known values."""
    known = {name: [value for value in found if value is not None] for name, found in values.items()}
    medians = [(models[name], median(found)) for name, found in known.items() if found]
    return render_measures(language, tr(language, title), [(one, value, write(value)) for one, value in medians])


def _charts_of_chat(language: str, conversation: Conversation, models: _Models) -> Markup:
    """Render charts with a bar per answer; only the last answers of a long chat."""
    answers = [
        (str(number), turn.answer, models[turn.answer.model, turn.request.model_id if turn.request else ""])
        for number, turn in enumerate(conversation.turns, 1)
        if turn.answer
    ][-_CHART_TURNS:]
    charts: list[tuple[str, str, int, _Measure]] = [
        ("usage.chat.tokens", "usage.tokens", 0, lambda answer, _: _token_kinds(language, answer)),
        ("usage.chat.first", "usage.seconds", 2, _first_token),
        ("usage.chat.rate", "usage.rate", 1, _rate),
    ]
    return Markup("").join(
        render_bar_chart(
            language,
            BarChart(
                title=tr(language, title),
                x_title=tr(language, "usage.answer"),
                y_title=tr(language, unit),
                bars=[Bar(number, measure(answer, model)) for number, answer, model in answers],
                decimals=decimals,
            ),
        )
        for title, unit, decimals, measure in charts
    )


def _token_kinds(language: str, answer: Answer) -> dict[Series, float]:
    return {
        Series(tr(language, key), color): count for key, color, count in usage_parts(answer.usage) if count is not None
    }


def _first_token(answer: Answer, model: Series) -> dict[Series, float]:
    seconds = answer.timings.time_to_first_token if answer.timings else None
    return {} if seconds is None else {model: seconds}


def _rate(answer: Answer, model: Series) -> dict[Series, float]:
    rate = answer.timings.tokens_per_second if answer.timings else None
    return {} if rate is None else {model: rate}


def _totals(language: str, metrics: Sequence[TurnMetrics], models: _Models) -> Markup:
    """Render answers and tokens by model, by day (UTC) for the last days, and in total; empty without answers."""
    if not metrics:
        return Markup("")
    by_model = _group(metrics, lambda turn: models[_model_key(turn)].name)
    last_days = sorted(_group(metrics, _day).items(), reverse=True)[:_TABLE_DAYS]
    by_day = {format_date(language, day): turns for day, turns in last_days}
    return render(
        "totals.html",
        language,
        columns=[tr(language, key) for key in ("usage.answers", "row.prompt", "row.completion")],
        groups=[
            (tr(language, "usage.models"), _total_rows(language, by_model)),
            (tr(language, "usage.days"), _total_rows(language, by_day)),
        ],
        total=_total_row(language, tr(language, "usage.all"), metrics),
    )


def _total_rows(language: str, groups: Mapping[str, Sequence[TurnMetrics]]) -> list[list[str | None]]:
    return [_total_row(language, name, turns) for name, turns in groups.items()]


def _total_row(language: str, name: str, turns: Sequence[TurnMetrics]) -> list[str | None]:
    """Return name, number of answers, and the sums of the known token counts; None for an unknown sum."""
    cells: list[str | None] = [name, format_number(language, len(turns))]
    for counts in ([turn.prompt_tokens for turn in turns], [turn.completion_tokens for turn in turns]):
        known = [count for count in counts if count is not None]
        cells.append(format_number(language, sum(known)) if known else None)
    return cells


def _sum_tokens(turns: Iterable[TurnMetrics], models: _Models) -> dict[Series, float]:
    """Sum the known tokens of each model."""
    sums: dict[Series, float] = {}
    for turn in turns:
        if turn.prompt_tokens is not None and turn.completion_tokens is not None:
            model = models[_model_key(turn)]
            sums[model] = sums.get(model, 0) + turn.prompt_tokens + turn.completion_tokens
    return dict(sorted(sums.items(), key=lambda item: item[0].name))


def _group(turns: Iterable[TurnMetrics], key: Callable[[TurnMetrics], _Key]) -> dict[_Key, list[TurnMetrics]]:
    """Group the turns by key, sorted by key."""
    groups: dict[_Key, list[TurnMetrics]] = {}
    for turn in sorted(turns, key=key):
        groups.setdefault(key(turn), []).append(turn)
    return groups


def _find_models(language: str, metrics: Iterable[TurnMetrics], conversation: Conversation) -> _Models:
    """Return each model with its colour, and the start of its id where several have the same name.

    The first model of an engine gets the engine's colour, as in the usage tab; the others get the remaining colours.
    """
    keys = {_model_key(turn) for turn in metrics}
    keys |= {
        (turn.answer.model, turn.request.model_id if turn.request else "") for turn in conversation.turns if turn.answer
    }
    counts = Counter(name for name, _ in keys)
    unknown = tr(language, "unknown")
    names = {
        (name, id_): f"{name or unknown} ({id_[:8]})" if counts[name] > 1 and id_ else name or unknown
        for name, id_ in keys
    }
    colors: dict[str, str] = {}
    engines = set[str]()
    for name, engine in sorted({(name, find_engine(label) or "") for (label, _), name in names.items()}):
        is_first = engine and engine not in engines
        others = len(colors) - len(engines)
        colors[name] = f"--engine-{engine}" if is_first else f"--series-{_FIRST_COLOR + others % _COLORS}"
        engines |= {engine} if is_first else set()
    return {key: Series(name, colors[name]) for key, name in names.items()}


def _model_key(turn: TurnMetrics) -> tuple[str, str]:
    return turn.model, turn.model_id


def _day(turn: TurnMetrics) -> date:
    return datetime.fromtimestamp(turn.asked_at, UTC).date()
