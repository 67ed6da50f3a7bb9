"""`python -m phi3_ui …`: the same services without a browser."""

import argparse
import json
import sys
from dataclasses import asdict

from phi3_ui.errors import UserError
from phi3_ui.settings import Settings
from phi3_ui.setup import Setup
from phi3_ui.store.catalogue import Catalogue, ModelEntry
from phi3_ui.ui.console import show_setup


def main(arguments: list[str] | None = None) -> None:
    """Run one command. Exit 1, with one sentence on standard error, for an error that has a cure."""
    parser = argparse.ArgumentParser(prog="python -m phi3_ui", description="Phi-3 Chat on MLflow, without a browser.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="the chat-capable models of the tracking store, newest first")
    listing.add_argument("--json", action="store_true", help="one JSON array")
    commands.add_parser("setup", help="make and log the models of PHI3_UI_PRESET, if the store has none")
    parsed = parser.parse_args(arguments)
    try:
        settings = Settings.read()
        settings.home.mkdir(parents=True, exist_ok=True)
        catalogue = Catalogue(settings.tracking_uri)
        if parsed.command == "list":
            _list(catalogue, parsed.json)
        else:
            _setup(settings, catalogue)
    except UserError as error:
        sys.exit(str(error))


def _list(catalogue: Catalogue, as_json: bool) -> None:
    entries = catalogue.models()
    if as_json:
        print(json.dumps([_plain(entry) for entry in entries], indent=2))
        return
    for entry in entries:
        size = "" if entry.size_bytes is None else f"{entry.size_bytes / 1e6:,.1f} MB"
        print(f"{entry.name}  {entry.contract}  {entry.engine}  {entry.created:%Y-%m-%d %H:%M}  {size}  {entry.uri}")


def _plain(entry: ModelEntry) -> dict[str, object]:
    return {**asdict(entry), "created": entry.created.isoformat()}


def _setup(settings: Settings, catalogue: Catalogue) -> None:
    setup = Setup(settings, catalogue, show_setup)
    setup.start()
    state = setup.wait()
    if state.error:
        raise state.error
