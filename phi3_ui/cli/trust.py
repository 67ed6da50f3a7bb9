"""`trust`: show what loading a model would run, and approve it."""

from dataclasses import asdict

import click

from phi3_ui.cli.app import App, json_option, model_argument, pass_app, print_json, single_line
from phi3_ui.i18n.translate import tr
from phi3_ui.store.registry.admission import open_admission, printable


@click.command(short_help="Show what loading a model would run, and approve it.")
@model_argument
@click.option("--approve", is_flag=True, help="Allow the model's code to run, until any of its files changes.")
@json_option("one JSON object")
@pass_app
def trust(app: App, model: str, approve: bool, as_json: bool) -> int:
    """Show what loading a model would run. Its files are only inspected; nothing is executed.

    The exit code is 1 if the model may not be loaded.
    """
    entry = app.find_stored(model)
    admission = open_admission(app.settings)
    inspection = admission.inspect(entry)
    if approve and inspection.fingerprint:
        admission.approvals.add(inspection.fingerprint)
    is_approved = admission.approvals.contains(inspection.fingerprint)
    is_loadable = inspection.level != "code" or is_approved
    if as_json:
        print_json({"model_id": entry.model_id, **asdict(inspection), "approved": is_approved})
        return int(not is_loadable)
    state = "approved" if is_approved else inspection.level
    print(f"{single_line(entry.name)} ({entry.model_id}): {tr('en', f'trust.state.{state}')}")
    for suspect in inspection.suspects:
        print(f"  {printable(suspect.path)}: {tr('en', f'trust.reason.{suspect.reason}')}")
    if inspection.fingerprint:
        print(f"Fingerprint: {inspection.fingerprint}")
    if not is_loadable:
        print(f"If you trust its author, run: python -m phi3_ui trust {entry.model_id} --approve")
    return int(not is_loadable)
