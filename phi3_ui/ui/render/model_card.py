"""The model card: its health, then all that the store knows about the model and the run that logged it."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from models.store_state import quote_store
from phi3_ui.i18n.hide_paths import hide_paths
from phi3_ui.i18n.translate import format_bytes, format_datetime, format_metric, format_number, tr, tr_finding
from phi3_ui.store.registry.admission import Review
from phi3_ui.store.registry.cards import ModelCard, RunSummary
from phi3_ui.store.registry.doctor import Diagnosis
from phi3_ui.ui.render.labels import version_label
from phi3_ui.ui.render.model_trust import describe_code, trust_chip
from phi3_ui.ui.render.notices import render_hint
from phi3_ui.ui.render.remote_notice import describe_limits
from phi3_ui.ui.render.templating import render

_Rows = list[tuple[str, str]]
_BADGES = {"onnxruntime-genai": "ONNX", "transformers": "TF", "python": "Py", "openai": "API", "remote": "API"}


@dataclass(frozen=True)
class Health:
    """What is known about a model's files."""

    diagnosis: Diagnosis
    review: Review | None = None
    """None: its files have not been inspected yet."""
    can_approve: bool = False
    """Whether the page offers a button to allow the code that comes with the model."""

    @property
    def is_refused(self) -> bool:
        """Whether it is not loaded because it comes with code."""
        return self.review is not None and not self.review.is_loadable


def render_card(language: str, card: ModelCard | None, health: Health | None = None) -> Markup:
    """Render a model's card, with its health if it is given."""
    if card is None:
        return render_hint(tr(language, "no_card"))
    return render(
        "model_card.html",
        language,
        badge=_BADGES[card.entry.engine],
        name=card.entry.name,
        about=" · ".join(text for text in (card.title, card.license) if text),
        chips=_chips(language, card, health),
        code=describe_code(language, card.entry.model_id, health.review, health.can_approve) if health else None,
        health=_health(language, health.diagnosis) if health else [],
        limits=describe_limits(language, card.entry),
        is_logged=not card.entry.is_unlogged,
        copied=[tr(language, f"card.{key}") for key in ("id", "uri", "run_id")],
        model=_model(language, card),
        signature=_signature(language, card),
        run=_run(language, card.run, quote_store(card.entry.tracking_uri)) if card.run else None,
        versions=_versions(language, card),
        version_count=format_number(language, len(card.versions)),
    )


def _chips(language: str, card: ModelCard, health: Health | None) -> list[tuple[str, str]]:
    """Return class and text of each chip."""
    chips = [("accent", version_label(version)) for version in card.versions[-1:]]
    if health:
        chips.append(
            ("warn" if card.entry.is_elsewhere else "plain", tr(language, f"engine.{card.entry.engine}"))
            if card.entry.is_remote
            else trust_chip(language, health.review)
        )
        problems = sum(finding.severity != "ok" for finding in health.diagnosis.findings)
        if problems:
            chips.append(("warn", tr(language, "card.problems", count=problems)))
        elif not health.is_refused:
            chips.append(("plain ok", tr(language, "models.reachable" if card.entry.is_remote else "card.healthy")))
    return chips


def _model(language: str, card: ModelCard) -> list[tuple[str, str]]:
    """Return name and value of each fact."""
    entry = card.entry
    size = "" if entry.size_bytes is None else format_bytes(language, entry.size_bytes)
    values = {
        "id": entry.model_id,
        "uri": "" if entry.is_unlogged else entry.uri,
        "host": entry.host or "",
        "contract": "" if entry.is_unlogged else entry.contract,
        "flavor": "" if entry.is_unlogged else entry.flavor,
        "context": "" if card.context_length is None else tr(language, "card.tokens", count=card.context_length),
        "size": size and tr(language, "card.on_disk", size=size),
        "created": "" if entry.is_unlogged else f"{format_datetime(language, entry.created)} UTC",
    }
    return [(tr(language, f"card.{key}"), value) for key, value in values.items()]


def _signature(language: str, card: ModelCard) -> dict[str, Any]:
    inputs, params = (len(card.signature.get(part, ())) for part in ("inputs", "params"))
    counts = [tr(language, "card.input_count", count=inputs), tr(language, "card.param_count", count=params)]
    rows = [(tr(language, f"card.{part}"), "\n".join(fields)) for part, fields in card.signature.items()]
    return {"count": " · ".join(counts) if rows else "", "rows": rows}


def _run(language: str, run: RunSummary, store: str) -> dict[str, Any]:
    deleted = tr(language, "card.run_deleted", status=run.status, id=run.run_id, store=store) if run.is_deleted else ""
    about = {"run_name": run.name, "run_id": run.run_id, "experiment": run.experiment, "status": deleted or run.status}
    return {
        "name": run.name,
        "about": [(tr(language, f"card.{key}"), value) for key, value in about.items()],
        "params": sorted(run.params.items()),
        "metrics": [(name, format_metric(language, value)) for name, value in sorted(run.metrics.items())],
        "tags": sorted(run.tags.items()),
    }


def _health(language: str, diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """Return severity and message of each problem, with its remedy."""
    problems = [finding for finding in diagnosis.findings if finding.severity != "ok"]
    return [(finding.severity, hide_paths(tr_finding(language, finding.code, finding.values))) for finding in problems]


def _versions(language: str, card: ModelCard) -> _Rows:
    """Return the name of each registered model, and its versions with their aliases, one per line."""
    lines: dict[str, list[str]] = {}
    for version in card.versions:
        line = " ".join(
            [tr(language, "card.version", version=version.version), *(f"@{alias}" for alias in version.aliases)]
        )
        lines.setdefault(version.name, []).append(line)
    return [(name, "\n".join(versions)) for name, versions in lines.items()]
