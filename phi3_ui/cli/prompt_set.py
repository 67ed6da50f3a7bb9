"""`prompt-set`: manage the prompt sets of the store."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from phi3_ui.cli.app import App, json_option, pass_app, print_json, single_line
from phi3_ui.evaluation.prompt_set import PromptSet
from phi3_ui.evaluation.prompt_sets import PromptSets
from phi3_ui.evaluation.questions import read_records
from phi3_ui.store.conversations.location import ChatLocator

_name_argument = click.argument("name")
_file_argument = click.argument("file", type=click.Path(path_type=Path))


@click.group("prompt-set", short_help="List, create and show prompt sets.")
def prompt_set() -> None:
    """List, create and show prompt sets, on which models are evaluated: MLflow evaluation datasets that keep every version."""


@prompt_set.command("list")
@json_option("one JSON array")
@pass_app
def list_sets(app: App, as_json: bool) -> None:
    """List all prompt sets, the most recently changed first."""
    found = open_prompt_sets(app).list_sets()
    if as_json:
        print_json([asdict(one) for one in found])
        return
    for one in found:
        newest = f"version {one.versions[0].number}, {_count(one.versions[0].records)}" if one.versions else ""
        print(f"{single_line(one.name)}  {newest}")


@prompt_set.command("create")
@_name_argument
@_file_argument
@json_option("the set's id and version as one JSON object")
@pass_app
def create_set(app: App, name: str, file: Path, as_json: bool) -> None:
    """Create a prompt set from a file.

    FILE is .txt, with one question per line, or .jsonl or .csv, with the questions in the field "prompt" and the expected
    answers in "expected_response".
    """
    _print_version(open_prompt_sets(app).create(name, read_records(file)), as_json)


@prompt_set.command("add")
@_name_argument
@_file_argument
@json_option("the set's id and version as one JSON object")
@pass_app
def add_to_set(app: App, name: str, file: Path, as_json: bool) -> None:
    """Add the requests of a file to a prompt set, as a new version."""
    _print_version(open_prompt_sets(app).add_file(name, file), as_json)


@prompt_set.command("show")
@_name_argument
@json_option("one JSON object with all records")
@pass_app
def show_set(app: App, name: str, as_json: bool) -> None:
    """Show the requests and versions of a prompt set, NAME or NAME/VERSION."""
    sets = open_prompt_sets(app)
    shown = sets.load(name)
    versions = sets.list_versions(shown.id)
    if as_json:
        records = [record.as_json() for record in shown.records]
        print_json({**_describe(shown), "versions": [asdict(one) for one in versions], "records": records})
        return
    for one in versions:
        created = datetime.fromtimestamp(one.created_at, UTC)
        mark = "*" if one.number == shown.version else " "
        print(f"{mark} version {one.number}  {one.digest[:12]}  {created:%Y-%m-%d %H:%M} UTC  {_count(one.records)}")
    for record in shown.records:
        expected = "; ".join(f"{name}: {value}" for name, value in record.expectations.items())
        print("  " + single_line(record.question + (f" → {expected}" if expected else "")))


def open_prompt_sets(app: App) -> PromptSets:
    """Return the prompt sets of the configured store."""
    return PromptSets(ChatLocator(app.settings).locate)


def _count(requests: int) -> str:
    return "1 request" if requests == 1 else f"{requests} requests"


def _describe(shown: PromptSet) -> dict[str, str | int]:
    return {"id": shown.id, "name": shown.name, "version": shown.version, "digest": shown.digest}


def _print_version(created: PromptSet, as_json: bool) -> None:
    if as_json:
        print_json({**_describe(created), "requests": len(created.records)})
    else:
        print(f"{created.name}/{created.version}")
