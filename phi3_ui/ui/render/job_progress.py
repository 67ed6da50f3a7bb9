"""Progress of the first run and of adding a model: the current stage, and one bar over all stages."""

from math import floor
from typing import Any

from markupsafe import Markup

from phi3_ui.i18n.translate import format_megabytes, format_percent, tr, tr_error
from phi3_ui.provision.jobs import JobState
from phi3_ui.provision.recipes import BYTES
from phi3_ui.ui.render.notices import render_error, render_hint
from phi3_ui.ui.render.templating import render


def render_setup(language: str, state: JobState) -> Markup:
    """The first run's progress, or its error; a note of one line once there is a model to chat with."""
    error = render_error(f"{tr(language, 'setup.failed')} {tr_error(language, state.error)}") if state.error else ""
    if state.is_usable:
        note = f"{tr(language, 'setup.usable')} {_step_label(language, state)}".strip()
        return Markup('<div class="phi3-setup-note">{}</div>').format(error or render_hint(note))
    if state.phase in ("checking", "waiting") and state.stage is None:
        return Markup('<div class="phi3-setup"><p>{}</p></div>').format(tr(language, f"setup.{state.phase}"))
    return render("setup.html", language, error=error, **_progress(language, state))


def render_job(language: str, state: JobState | None, name: str) -> Markup:
    """The model that is being added, or how that ended; empty if there is none."""
    if state is None:
        return Markup("")
    if state.phase == "done":
        return Markup('<p class="phi3-status loaded">{}</p>').format(tr(language, "add.done", name=name))
    if state.error:
        return render_error(tr_error(language, state.error))
    waiting = "" if state.stage else tr(language, f"setup.{state.phase}")
    percent = format_percent(language, _percent(state) / 100)
    summary = tr(language, "add.running", name=name, percent=percent)
    return render("job.html", language, name=name, waiting=waiting, summary=summary, **_progress(language, state))


def _progress(language: str, state: JobState) -> dict[str, Any]:
    return {"percent": _percent(state), "label": _step_label(language, state)}


def _step_label(language: str, state: JobState) -> str:
    """The current stage, its number and how much is done; empty before the first."""
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
    """Rounded down: 100 only when everything is done."""
    return floor(100 * state.fraction)
