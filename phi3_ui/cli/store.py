"""`list`, `show`, `register`, `remove` and `doctor`: the models of the tracking store."""

import sys
from collections.abc import Iterator
from dataclasses import asdict

import click

from models.store_state import quote_store
from models.tracking import Store
from phi3_ui.cli.app import App, json_option, model_argument, pass_app, print_json, single_line
from phi3_ui.cli.log import run_recipe
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr, tr_finding
from phi3_ui.provision.relog import recipe_from_logged_model, remove_relog_folder
from phi3_ui.remote_servers import REMOTE_PREFIX
from phi3_ui.store.errors import find_notice
from phi3_ui.store.registry.cards import ModelCard, RegisteredVersion
from phi3_ui.store.registry.doctor import Diagnosis, diagnose
from phi3_ui.store.registry.versions import Registry


@click.command("list", short_help="List the chat-capable models of the store.")
@json_option("one JSON array")
@pass_app
def list_models(app: App, as_json: bool) -> None:
    """List the chat-capable models of the tracking store, newest first, then those of remote servers."""
    entries = app.catalogue.list_models()
    for error in app.remote.query_all():
        print(error, file=sys.stderr)
    shown = [*entries, *app.remote.list_models()]
    for name, why in app.catalogue.unreadable_models.values():
        print(
            f"Not listed because its files cannot be read: {single_line(name)} ({why.splitlines()[0]})", file=sys.stderr
        )
    notice = find_notice(Store(app.settings.tracking_uri))
    is_deleted = notice is not None and notice.code == "experiment_deleted"
    if not entries and not is_deleted and (deletion := app.catalogue.find_deletion()):
        notice, is_deleted = deletion, True
    if notice:
        print(notice, file=sys.stderr)
    if as_json:
        print_json([asdict(entry) for entry in shown])
        return
    if not entries and not is_deleted:
        print(
            "The tracking store has no chat models. Run `python -m phi3_ui setup` to log the embedded ones.",
            file=sys.stderr,
        )
    for entry in shown:
        size = "" if entry.size_bytes is None else f"{entry.size_bytes / 1e6:,.1f} MB"
        print(
            f"{single_line(entry.name)}  {entry.contract}  {entry.engine}  {entry.host if entry.is_unlogged else f'{entry.created:%Y-%m-%d %H:%M}'}  {size}  {entry.uri}"
        )


@click.command()
@model_argument
@json_option("one JSON object")
@pass_app
def show(app: App, model: str, as_json: bool) -> None:
    """Show everything known about a model."""
    entry = app.find(model)
    card = app.remote.load_card(entry) if entry.is_unlogged else app.catalogue.load_card(entry.model_id)
    if as_json:
        print_json(asdict(card))
        return
    for key, value in _card_rows(card):
        if value:
            print(f"{tr('en', f'card.{key}') + ':':<21}{value}")


def _card_rows(card: ModelCard) -> Iterator[tuple[str, str]]:
    """Yield the rows of a card: the key of its label, without the prefix `card.`, and the value."""
    entry = card.entry
    yield "name", entry.name
    yield "title", card.title
    yield "id", entry.model_id
    yield "uri", entry.uri
    yield "host", entry.host or ""
    yield "flavor", entry.flavor
    yield "contract", entry.contract
    yield "size", "" if entry.size_bytes is None else f"{entry.size_bytes / 1e6:,.1f} MB"
    yield "context", "" if card.context_length is None else tr("en", "card.tokens", count=f"{card.context_length:,}")
    yield "created", "" if entry.is_unlogged else f"{entry.created:%Y-%m-%d %H:%M} UTC"
    yield "license", card.license
    for part, fields in card.signature.items():
        yield part, "; ".join(fields)
    if card.run:
        deleted = (
            tr(
                "en",
                "card.run_deleted",
                status=card.run.status,
                id=card.run.run_id,
                store=quote_store(entry.tracking_uri),
            )
            if card.run.is_deleted
            else ""
        )
        yield "run", f"{card.run.name} ({card.run.run_id}), {card.run.experiment}, {deleted or card.run.status}"
        yield "run_params", ", ".join(f"{name}={value}" for name, value in sorted(card.run.params.items()))
        yield "run_metrics", ", ".join(f"{name}={value:,.6g}" for name, value in sorted(card.run.metrics.items()))
        yield "run_tags", ", ".join(f"{name}={value}" for name, value in sorted(card.run.tags.items()))
    elif not entry.is_unlogged:
        yield "run", tr("en", "card.no_run")
    if not entry.is_unlogged:
        yield "versions", ", ".join(map(_format_version, card.versions)) or tr("en", "card.no_versions")


def _format_version(version: RegisteredVersion) -> str:
    aliases = "".join(f" @{alias}" for alias in version.aliases)
    return f"{version.name} {tr('en', 'card.version', version=version.version)}{aliases}"


@click.command()
@model_argument
@click.option("--name", help="Name of the registered model.  [default: the model's own]")
@click.option("--alias", help='An alias for the version, such as "champion".')
@json_option("one JSON object")
@pass_app
def register(app: App, model: str, name: str | None, alias: str | None, as_json: bool) -> None:
    """Register a model as a version, unless it already is one."""
    if name == "":
        raise UserError("bad_model_name", name="“”")
    registry = Registry(app.settings.tracking_uri)
    version = registry.register_model(app.find_stored(model).model_id, name)
    if alias and alias not in version.aliases:
        registry.promote(version.name, version.version, alias)
        version = RegisteredVersion(version.name, version.version, tuple(sorted({*version.aliases, alias})))
    if as_json:
        print_json(asdict(version))
    else:
        print(_format_version(version))


@click.command()
@model_argument
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@pass_app
def remove(app: App, model: str, yes: bool) -> int:
    """Delete a model with its files and its registered versions."""
    model_id, name = _find_removable(app, model)
    if not yes and not _confirm(name):
        return 1
    for version in Registry(app.settings.tracking_uri).delete_model(model_id):
        print(_format_version(version))
    print(model_id)
    return 0


def _find_removable(app: App, text: str) -> tuple[str, str]:
    """Return id and name of a model. An id whose files are gone is accepted, so that an interrupted removal can be completed."""
    try:
        entry = app.find_stored(text)
    except UserError as error:
        if error.code in ("no_such_model", "model_unreadable") and text.startswith("m-"):
            return text, text
        raise
    return entry.model_id, f"{entry.name} ({entry.model_id})"


def _confirm(name: str) -> bool:
    """Ask for confirmation on the terminal. Raises UserError("confirmation_required") if there is none."""
    if not sys.stdin.isatty():
        raise UserError("confirmation_required", model=name)
    print(f"Delete {name} with its files and registered versions? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@click.command()
@model_argument
@click.option("--relog", is_flag=True, help="Log the model again from its files in the store, as a new version.")
@json_option("one JSON object")
@pass_app
def doctor(app: App, model: str, relog: bool, as_json: bool) -> int:
    """Compare what a model was logged with against what is installed."""
    if model.startswith(REMOTE_PREFIX) and not relog:
        entry = app.find(model)
        app.remote.query(entry)
        return _print_diagnosis(app.remote.diagnose(entry), model, as_json)
    model_id, _ = _find_removable(app, model)
    if relog:
        recipe = recipe_from_logged_model(app.settings, model_id)
        try:
            run_recipe(app, recipe, as_json)
        finally:
            remove_relog_folder(recipe)
        return 0
    return _print_diagnosis(diagnose(app.settings.tracking_uri, model_id), model, as_json)


def _print_diagnosis(diagnosis: Diagnosis, model: str, as_json: bool) -> int:
    if as_json:
        print_json(_diagnosis_as_dict(diagnosis))
    else:
        for severity, _, sentence in _format_findings(diagnosis):
            print(f"{tr('en', f'doctor.severity.{severity}') + ':':<9}{sentence}")
        if diagnosis.severity != "ok" and diagnosis.can_relog:
            print(f"To log it again as a new version: python -m phi3_ui doctor {model} --relog")
    return int(diagnosis.severity == "error")


def _format_findings(diagnosis: Diagnosis) -> Iterator[tuple[str, str, str]]:
    """Yield severity, code and sentence of each finding."""
    for finding in diagnosis.findings:
        yield finding.severity, finding.code, tr_finding("en", finding.code, finding.values)


def _diagnosis_as_dict(diagnosis: Diagnosis) -> dict[str, object]:
    findings = [
        {"severity": severity, "code": code, "values": finding.values, "sentence": sentence}
        for finding, (severity, code, sentence) in zip(diagnosis.findings, _format_findings(diagnosis), strict=True)
    ]
    return {**asdict(diagnosis), "severity": diagnosis.severity, "findings": findings}
