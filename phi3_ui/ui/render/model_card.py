"""All that the store knows of a model and of the run that logged it, below its health."""

from typing import Any

from markupsafe import Markup

from models.store_state import quote_store
from phi3_ui.i18n.translate import format_datetime, format_megabytes, format_metric, tr
from phi3_ui.store.registry.cards import ModelCard, RunSummary
from phi3_ui.store.registry.doctor import Diagnosis
from phi3_ui.ui.render.notices import render_hint
from phi3_ui.ui.render.templating import render

_Rows = list[tuple[str, str]]


def render_card(language: str, card: ModelCard | None, diagnosis: Diagnosis | None = None) -> Markup:
    """Render a model's card, with its health if `diagnosis` is given."""
    if card is None:
        return render_hint(tr(language, "no_card"))
    return render(
        "model_card.html",
        language,
        health=_health(language, diagnosis) if diagnosis else [],
        model=_model(language, card),
        signature=[(tr(language, f"card.{part}"), "\n".join(fields)) for part, fields in card.signature.items()],
        run=_run(language, card.run, quote_store(card.entry.tracking_uri)) if card.run else None,
        versions=_versions(language, card),
    )


def _model(language: str, card: ModelCard) -> _Rows:
    entry = card.entry
    size = "" if entry.size_bytes is None else format_megabytes(language, entry.size_bytes)
    context = "" if card.context_length is None else tr(language, "card.tokens", count=card.context_length)
    values = {
        "name": entry.name,
        "title": card.title,
        "id": entry.model_id,
        "uri": entry.uri,
        "flavor": entry.flavor,
        "contract": entry.contract,
        "size": size,
        "context": context,
        "created": f"{format_datetime(language, entry.created)} UTC",
        "license": card.license,
    }
    return [(tr(language, f"card.{key}"), value) for key, value in values.items()]


def _run(language: str, run: RunSummary, store: str) -> dict[str, Any]:
    deleted = tr(language, "card.run_deleted", status=run.status, id=run.run_id, store=store) if run.is_deleted else ""
    about = {"run_name": run.name, "run_id": run.run_id, "experiment": run.experiment, "status": deleted or run.status}
    return {
        "about": [(tr(language, f"card.{key}"), value) for key, value in about.items()],
        "params": sorted(run.params.items()),
        "metrics": [(name, format_metric(language, value)) for name, value in sorted(run.metrics.items())],
        "tags": sorted(run.tags.items()),
    }


def _health(language: str, diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """Severity and sentence: one line if all is well, else one per problem, with its cure."""
    problems = [finding for finding in diagnosis.findings if finding.severity != "ok"]
    if not problems:
        return [("ok", tr(language, "doctor.healthy"))]
    return [(finding.severity, tr(language, f"doctor.{finding.code}", **finding.values)) for finding in problems]


def _versions(language: str, card: ModelCard) -> _Rows:
    """Name of each registered model → its versions with their aliases, a line each."""
    lines: dict[str, list[str]] = {}
    for version in card.versions:
        line = " ".join(
            [tr(language, "card.version", version=version.version), *(f"@{alias}" for alias in version.aliases)]
        )
        lines.setdefault(version.name, []).append(line)
    return [(name, "\n".join(versions)) for name, versions in lines.items()]
