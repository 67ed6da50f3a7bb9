"""Prompt sets and evaluations: the lists, a set with its records, and the form for a new evaluation."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup

from phi3_ui.chat.presets import PARAM_PRESETS
from phi3_ui.evaluation.prompt_set import EXPECTED_RESPONSE, PromptRecord, PromptSet
from phi3_ui.evaluation.prompt_sets import PromptSetSummary, PromptSetVersion
from phi3_ui.evaluation.running import RunningEvaluation
from phi3_ui.evaluation.runs import Evaluation
from phi3_ui.i18n.translate import format_datetime, format_number, tr
from phi3_ui.ui.render.templating import render

PAGE_SIZE = 50
_SIMPLE_SCORERS = ("exact_match", "contains", "similarity", "first_token", "tokens_per_second")


@dataclass(frozen=True)
class HomeView:
    """All prompt sets and evaluations."""

    sets: Sequence[PromptSetSummary]
    evaluations: Sequence[tuple[Evaluation, RunningEvaluation | None]]
    chats: Sequence[tuple[str, str]]
    """The sources for a new set: value and label."""


@dataclass(frozen=True)
class SetView:
    """One version of a prompt set."""

    shown: PromptSet
    versions: Sequence[PromptSetVersion]
    start: int
    chats: Sequence[tuple[str, str]]
    """As in HomeView."""
    chat_ids: Mapping[str, str]
    """The user's chats, by the trace ids of their turns."""
    link: str
    """URL of the dataset in MLflow's UI; empty if there is none."""


@dataclass(frozen=True)
class NewView:
    """The choices for a new evaluation."""

    sets: Sequence[tuple[str, str]]
    """Id and name."""
    set_id: str
    """The selected one; empty: the first."""
    models: Sequence[tuple[str, str]]
    selected: Collection[str]
    has_judge: bool
    notice: Markup
    """Where questions that leave this machine are sent; empty if no model is elsewhere."""


def render_home(language: str, view: HomeView) -> str:
    """Render the lists, and the form that creates a set."""
    return render(
        "evaluations.html",
        language,
        sets=[
            {
                "id": one.id,
                "name": one.name,
                "version": one.versions[0].number if one.versions else 0,
                "count": tr(language, "eval.records", count=one.versions[0].records) if one.versions else "",
                "when": _format_time(language, one.versions[0].created_at) if one.versions else "",
            }
            for one in view.sets
        ],
        evaluations=[describe_evaluation(language, one, running) for one, running in view.evaluations],
        chats=view.chats,
    )


def describe_evaluation(language: str, evaluation: Evaluation, running: RunningEvaluation | None) -> dict[str, object]:
    """Describe an evaluation as a whole, for the list and the results."""
    first = evaluation.runs[0]
    state, progress = _find_state(evaluation, running), running.progress if running else None
    return {
        "id": evaluation.id,
        "set": f"{first.set_name}/{first.set_version}",
        "models": ", ".join(run.name for run in evaluation.runs),
        "when": _format_time(language, first.started_at),
        "state": state,
        "label": tr(language, f"eval.state.{state}"),
        "progress": f"{progress.done / max(progress.total, 1):.0%}" if progress else "",
        "counts": tr(language, "eval.progress", done=progress.done, count=progress.total) if progress else "",
    }


def _find_state(evaluation: Evaluation, running: RunningEvaluation | None) -> str:
    if running:
        progress = running.progress
        return "cancelling" if progress.is_cancelled else progress.phase
    if evaluation.is_finished:
        return "finished"
    if evaluation.runs_elsewhere:
        return "elsewhere"
    states = {run.status for run in evaluation.runs}
    if "FAILED" in states:
        return "failed"
    return "cancelled" if "KILLED" in states else "interrupted"


def render_set(language: str, view: SetView) -> str:
    """Render a set with its records, which can be edited in the newest version."""
    shown, total = view.shown, len(view.shown.records)
    newest = view.versions[0].number if view.versions else shown.version
    return render(
        "evaluation_set.html",
        language,
        id=shown.id,
        title=shown.name,
        count=tr(language, "eval.records", count=total),
        versions=[
            (one.number, tr(language, "eval.version", version=one.number, when=_format_time(language, one.created_at)))
            for one in view.versions
        ],
        version=shown.version,
        is_newest=shown.version == newest,
        records=[
            _describe_record(record, view.chat_ids) for record in shown.records[view.start : view.start + PAGE_SIZE]
        ],
        chats=view.chats,
        link=view.link,
        pages=describe_pages(language, view.start, total),
    )


def _describe_record(record: PromptRecord, chat_ids: Mapping[str, str]) -> dict[str, object]:
    others = {name: value for name, value in record.expectations.items() if name != EXPECTED_RESPONSE}
    return {
        "key": record.key,
        "question": record.question,
        "before": [(message.role, message.content) for message in record.messages[:-1]],
        "expected": record.expectations.get(EXPECTED_RESPONSE, ""),
        "others": [f"{name}: {value}" for name, value in others.items()],
        "chat": chat_ids.get(record.source_trace_id, ""),
    }


def describe_pages(language: str, start: int, total: int) -> dict[str, object]:
    """Describe which page of a long list is shown, and where the previous and next pages begin."""
    end = min(start + PAGE_SIZE, total)
    return {
        "label": tr(language, "eval.range", start=start + 1, end=end, count=total) if total > PAGE_SIZE else "",
        "before": max(start - PAGE_SIZE, 0) if start else None,
        "after": end if end < total else None,
    }


def render_new(language: str, view: NewView) -> str:
    """Render the form for a new evaluation."""
    return render(
        "evaluation_new.html",
        language,
        sets=view.sets,
        set_id=view.set_id,
        models=view.models,
        selected=view.selected,
        notice=view.notice,
        presets=[(preset.name, tr(language, f"preset.{preset.name}")) for preset in PARAM_PRESETS],
        scorers=_SIMPLE_SCORERS,
        has_judge=view.has_judge,
    )


def _format_time(language: str, seconds: float) -> str:
    return format_datetime(language, datetime.fromtimestamp(seconds or time.time(), UTC).astimezone())


def format_score(language: str, value: float) -> str:
    """Format a score or another metric with two decimals, or as a whole number from a hundred on."""
    return format_number(language, value, 2 if abs(value) < 100 else 0)
