"""`setup` and `log`: fetch or build models, and log them."""

import contextlib
import sys
from collections.abc import Callable

import click

from phi3_ui.cli.app import App, json_option, pass_app, print_json
from phi3_ui.cli.console import SetupPrinter
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.provision.jobs import Job, JobState
from phi3_ui.provision.recipes import CONTRACTS, DEVICES, PRECISIONS, Recipe, recipe_from_arguments, recipe_from_preset


@click.command(short_help="Fetch or build the models of PHI3_UI_PRESET, and log them.")
@pass_app
def setup(app: App) -> None:
    """Fetch or build the models of PHI3_UI_PRESET and log them, if the store has none."""
    first_run = FirstRun(app.settings, app.catalogue, SetupPrinter())
    first_run.start()
    state = first_run.wait()
    if state.error:
        raise state.error


@click.command()
@click.option("--preset", default="", metavar="NAME", help="Log the models of a preset.")
@click.option("--pipeline", default="", metavar="ID_OR_DIR", help="Log a checkpoint as a Transformers pipeline.")
@click.option("--onnx", default="", metavar="ID_OR_DIR[:SUBFOLDER]", help="Log an ONNX Runtime GenAI model.")
@click.option(
    "--build-onnx", default="", metavar="ID_OR_DIR", help="Build an ONNX model from a checkpoint, and log it."
)
@click.option(
    "--precision", default="int4", type=click.Choice(PRECISIONS), show_default=True, help="Precision, for --build-onnx."
)
@click.option(
    "--device", type=click.Choice(DEVICES), help="Device, for the ONNX model.  [default: PHI3_UI_DEVICE, or cpu]"
)
@click.option(
    "--contract",
    type=click.Choice(CONTRACTS),
    help="Log only the pipeline (chat) or only the ONNX model (prompt) of a preset.",
)
@click.option("--name", default="", help="The model's name, for your own weights.")
@click.option("--revision", default="", metavar="COMMIT", help="A branch, tag or commit on the hub.")
@json_option("the ids of the logged models as one JSON array")
@pass_app
def log(app: App, as_json: bool, contract: str | None, device: str | None, **weights: str) -> None:
    """Fetch or build models, log them and register them.

    The weights are those of a preset or your own: an id on the Hugging Face Hub, or a folder.
    """
    device = device or app.settings.device
    own = weights["pipeline"] or weights["onnx"] or weights["build_onnx"]
    if weights["preset"] and (own or weights["name"]):
        raise click.UsageError("--preset already names the weights; omit --pipeline, --onnx, --build-onnx and --name")
    if contract and not weights["preset"]:
        raise click.UsageError(
            "--contract applies to --preset only; for your own weights, give only the options of the models you want"
        )
    if weights["preset"]:
        contracts = [contract] if contract else CONTRACTS
        recipe = recipe_from_preset(weights["preset"], device, contracts, weights["revision"])
    else:
        del weights["preset"]
        recipe = recipe_from_arguments(device=device, **weights)
    run_recipe(app, recipe, as_json)


def run_recipe(app: App, recipe: Recipe, as_json: bool) -> None:
    """Run a job to completion with its progress on standard error, and print the ids of the logged models."""
    with contextlib.redirect_stdout(sys.stderr):
        model_ids = Job(app.settings, recipe, _progress_printer()).run()
    if as_json:
        print_json(model_ids)
        return
    for model_id in model_ids:
        print(model_id)


def _progress_printer() -> Callable[[JobState], None]:
    printer = SetupPrinter()

    def show(state: JobState) -> None:
        if not state.error:  # the command ends with the error message
            printer(state)

    return show
