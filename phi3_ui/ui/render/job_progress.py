"""Progress of the first run, as a checklist, and of adding a model, as one bar over all stages."""

from collections.abc import Callable
from math import floor
from typing import Any

from markupsafe import Markup

from phi3_ui.i18n.translate import format_megabytes, format_number, format_percent, tr, tr_error
from phi3_ui.provision.jobs import JobState
from phi3_ui.provision.recipes import BYTES
from phi3_ui.ui.render.notices import render_error, render_hint
from phi3_ui.ui.render.templating import render


def render_setup(  # noqa: PLR0913  # the last three are optional
    language: str,
    state: JobState,
    title: str,
    log: str = "",
    redact: Callable[[str], str] = str,
    seconds_left: float | None = None,
) -> Markup:
    """Render the first run as a full page; as a one-line note once there is a model to chat with.

    `title` is the name of the weights, `log` the output of the failed step, `redact` hides paths from visitors.
    """
    error = redact(tr_error(language, state.error)) if state.error else ""
    if state.is_usable:
        note = f"{tr(language, 'setup.usable')} {_step_label(language, state)}".strip()
        sentence = f"{tr(language, 'setup.failed')} {error}"
        return Markup('<div class="phi3-setup-note">{}</div>').format(
            render_error(sentence) if error else render_hint(note)
        )
    steps = [_render_step(language, state, number, title) for number in range(len(state.stages))]
    return render(
        "setup.html",
        language,
        title=title,
        steps=steps,
        note="" if error else _note(language, state, seconds_left),
        percent=_percent(state),
        is_measured=state.total > 0,
        error=f"{tr(language, 'setup.failed')} {error}" if error else "",
        log=redact(log),
    )


def _render_step(language: str, state: JobState, number: int, title: str) -> dict[str, Any]:
    """Render a line of the checklist."""
    measure = ""
    if number < len(state.results):
        result = state.results[number]
        measure = format_megabytes(language, result.bytes, 0) if result.bytes else _duration(language, result.seconds)
    elif number == state.step and state.total:
        percent = min(floor(100 * state.done / state.total), 99)  # the tick marks it as done
        measure = format_percent(language, percent / 100)
    progress = "done" if number < state.step else "now" if number == state.step else "next"
    name = tr(language, f"setup.do.{state.stages[number]}", title=title)
    return {"number": number + 1, "name": name, "measure": measure, "progress": progress}


def _note(language: str, state: JobState, left: float | None) -> str:
    """Return how much time is left, and from which step on chatting is possible."""
    if state.stage is None:
        return tr(language, "setup.waiting" if state.phase == "waiting" else "setup.checking")
    first_logged = next((number for number, name in enumerate(state.stages, 1) if name.startswith("log_")), 0)
    usable = tr(language, "setup.chat_after", step=first_logged) if first_logged else ""
    remaining = (
        "" if left is None else tr(language, "setup.left", time=_duration(language, max(5, 5 * round(left / 5))))
    )
    return f"{remaining} {usable}".strip()


def _duration(language: str, seconds: float) -> str:
    return f"{format_number(language, seconds)} s" if seconds < 100 else f"{format_number(language, seconds / 60)} min"


def render_job(language: str, state: JobState | None, name: str, redact: Callable[[str], str] = str) -> Markup:
    """Render the progress of the model being added, or the outcome; empty if there is none."""
    if state is None:
        return Markup("")
    if state.phase == "done":
        return Markup('<p class="phi3-status loaded">{}</p>').format(tr(language, "add.done", name=name))
    if state.error:
        return render_error(redact(tr_error(language, state.error)))
    waiting = "" if state.stage else tr(language, f"setup.{state.phase}")
    percent = format_percent(language, _percent(state) / 100)
    summary = tr(language, "add.running", name=name, percent=percent)
    return render("job.html", language, name=name, waiting=waiting, summary=summary, **_progress(language, state))


def _progress(language: str, state: JobState) -> dict[str, Any]:
    return {"percent": _percent(state), "label": _step_label(language, state)}


def _step_label(language: str, state: JobState) -> str:
    """Return the current stage, its number and its progress; empty before the first stage."""
    if not state.stage:
        return ""
    parts = [tr(language, "setup.step", step=state.step + 1, steps=len(state.stages))]
    parts.append(tr(language, f"setup.{state.stage}"))
    if state.stage in BYTES and state.total:
        done, total = format_megabytes(language, state.done), format_megabytes(language, state.total)
        parts.append(tr(language, "setup.bytes", done=done, total=total))
    parts.append(format_percent(language, _percent(state) / 100))
    return " · ".join(parts)


def _percent(state: JobState) -> int:
    """Return the percentage, rounded down: 100 only when everything is done."""
    return floor(100 * state.fraction)
