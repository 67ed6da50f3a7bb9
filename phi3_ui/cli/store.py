"""The commands about what the tracking store holds: list, show, register, remove, doctor."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from phi3_ui.cli.app import App, add_command, add_json, add_model, plain, print_json
from phi3_ui.cli.log import run_recipe
from phi3_ui.errors import UserError
from phi3_ui.i18n.translate import tr
from phi3_ui.provision.relog import recipe_from_logged_model, remove_relog_folder
from phi3_ui.store.registry.cards import ModelCard, RegisteredVersion
from phi3_ui.store.registry.doctor import Diagnosis, diagnose
from phi3_ui.store.registry.versions import Registry


def add_to(commands: Any) -> None:
    parser = add_command(commands, "list", _list, "the chat-capable models of the tracking store, newest first")
    add_json(parser, "one JSON array")

    parser = add_command(commands, "show", _show, "all that is known of one model")
    add_model(parser)
    add_json(parser, "one JSON object")

    parser = add_command(commands, "register", _register, "make a model a version in the registry, or find that it is")
    add_model(parser)
    parser.add_argument("--name", help="of the registered model (default: the model's own)")
    parser.add_argument("--alias", help="point this alias at the version, such as champion")
    add_json(parser, "one JSON object")

    parser = add_command(commands, "remove", _remove, "delete a model with its files and its registered versions")
    add_model(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")

    parser = add_command(commands, "doctor", _doctor, "compare what a model was logged with to what is installed")
    add_model(parser)
    parser.add_argument(
        "--relog", action="store_true", help="log it again from its files in the store, as a new version"
    )
    add_json(parser, "one JSON object")


def _list(app: App, parsed: argparse.Namespace) -> None:
    entries = app.catalogue.list_models()
    for name, why in app.catalogue.unreadable_models.values():
        print(f"Not listed, since its files cannot be read: {plain(name)} ({why.splitlines()[0]})", file=sys.stderr)
    if parsed.json:
        print_json([asdict(entry) for entry in entries])
        return
    if not entries:
        print(
            "The tracking store holds no chat model. `python -m phi3_ui setup` logs the embedded ones.", file=sys.stderr
        )
    for entry in entries:
        size = "" if entry.size_bytes is None else f"{entry.size_bytes / 1e6:,.1f} MB"
        print(
            f"{plain(entry.name)}  {entry.contract}  {entry.engine}  {entry.created:%Y-%m-%d %H:%M}  {size}  {entry.uri}"
        )


def _show(app: App, parsed: argparse.Namespace) -> None:
    card = app.catalogue.load_card(app.find(parsed.model).model_id)
    if parsed.json:
        print_json(asdict(card))
        return
    for key, value in _card_rows(card):
        if value:
            print(f"{tr('en', f'card.{key}') + ':':<21}{value}")


def _card_rows(card: ModelCard) -> Iterator[tuple[str, str]]:
    """What a card says: a key of the texts after `card.`, and its value."""
    entry = card.entry
    yield "name", entry.name
    yield "title", card.title
    yield "id", entry.model_id
    yield "uri", entry.uri
    yield "flavor", entry.flavor
    yield "contract", entry.contract
    yield "size", "" if entry.size_bytes is None else f"{entry.size_bytes / 1e6:,.1f} MB"
    yield "context", "" if card.context_length is None else tr("en", "card.tokens", count=f"{card.context_length:,}")
    yield "created", f"{entry.created:%Y-%m-%d %H:%M} UTC"
    yield "license", card.license
    for part, fields in card.signature.items():
        yield part, "; ".join(fields)
    if card.run:
        yield "run", f"{card.run.name} ({card.run.run_id}), {card.run.experiment}, {card.run.status}"
        yield "run_params", ", ".join(f"{name}={value}" for name, value in sorted(card.run.params.items()))
        yield "run_metrics", ", ".join(f"{name}={value:,.6g}" for name, value in sorted(card.run.metrics.items()))
        yield "run_tags", ", ".join(f"{name}={value}" for name, value in sorted(card.run.tags.items()))
    else:
        yield "run", tr("en", "card.no_run")
    yield "versions", ", ".join(map(_version, card.versions)) or tr("en", "card.no_versions")


def _version(version: RegisteredVersion) -> str:
    aliases = "".join(f" @{alias}" for alias in version.aliases)
    return f"{version.name} {tr('en', 'card.version', version=version.version)}{aliases}"


def _register(app: App, parsed: argparse.Namespace) -> None:
    if parsed.name == "":
        raise UserError("bad_model_name", name="“”")
    registry = Registry(app.settings.tracking_uri)
    version = registry.register_model(app.find(parsed.model).model_id, parsed.name)
    if parsed.alias and parsed.alias not in version.aliases:
        registry.promote(version.name, version.version, parsed.alias)
        version = RegisteredVersion(version.name, version.version, tuple(sorted({*version.aliases, parsed.alias})))
    if parsed.json:
        print_json(asdict(version))
    else:
        print(_version(version))


def _remove(app: App, parsed: argparse.Namespace) -> int:
    model_id, name = _removable(app, parsed.model)
    if not parsed.yes and not _agreed(name):
        return 1
    for version in Registry(app.settings.tracking_uri).delete_model(model_id):
        print(_version(version))
    print(model_id)
    return 0


def _removable(app: App, text: str) -> tuple[str, str]:
    """Id and name; an id also of a model whose files are gone, so that what a broken removal left can be removed."""
    try:
        entry = app.find(text)
    except UserError as error:
        if error.code == "no_such_model" and text.startswith("m-"):
            return text, text
        raise
    return entry.model_id, f"{entry.name} ({entry.model_id})"


def _agreed(name: str) -> bool:
    """Ask on a terminal. UserError("confirmation_required") where there is none."""
    if not sys.stdin.isatty():
        raise UserError("confirmation_required", model=name)
    print(f"Delete {name} with its files and registered versions? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _doctor(app: App, parsed: argparse.Namespace) -> int:
    model_id, _ = _removable(app, parsed.model)
    if parsed.relog:
        recipe = recipe_from_logged_model(app.settings, model_id)
        try:
            run_recipe(app, recipe, parsed.json)
        finally:
            remove_relog_folder(recipe)
        return 0
    diagnosis = diagnose(app.settings.tracking_uri, model_id)
    if parsed.json:
        print_json(_plain(diagnosis))
    else:
        for severity, _, sentence in _sentences(diagnosis):
            print(f"{tr('en', f'doctor.severity.{severity}') + ':':<9}{sentence}")
        if diagnosis.severity != "ok" and diagnosis.can_relog:
            print(f"To log it again as a new version: python -m phi3_ui doctor {parsed.model} --relog")
    return int(diagnosis.severity == "error")


def _sentences(diagnosis: Diagnosis) -> Iterator[tuple[str, str, str]]:
    """Severity, code and sentence of each finding."""
    for finding in diagnosis.findings:
        yield finding.severity, finding.code, tr("en", f"doctor.{finding.code}", **finding.values)


def _plain(diagnosis: Diagnosis) -> dict[str, object]:
    findings = [
        {"severity": severity, "code": code, "values": finding.values, "sentence": sentence}
        for finding, (severity, code, sentence) in zip(diagnosis.findings, _sentences(diagnosis), strict=True)
    ]
    return {**asdict(diagnosis), "severity": diagnosis.severity, "findings": findings}
