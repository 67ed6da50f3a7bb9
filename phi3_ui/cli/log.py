"""`setup` and `log`: make models and log them."""

import contextlib
import sys
from collections.abc import Callable

import click

from phi3_ui.cli.app import App, json_option, pass_app, print_json
from phi3_ui.cli.console import SetupPrinter
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.provision.jobs import Job, JobState
from phi3_ui.provision.recipes import CONTRACTS, DEVICES, PRECISIONS, Recipe, recipe_from_arguments, recipe_from_preset


@click.command(short_help="Make and log the models of PHI3_UI_PRESET.")
@pass_app
def setup(app: App) -> None:
    """Make and log the models of PHI3_UI_PRESET, if the store has none."""
    first_run = FirstRun(app.settings, app.catalogue, SetupPrinter())
    first_run.start()
    state = first_run.wait()
    if state.error:
        raise state.error


@click.command()
@click.option("--preset", default="", metavar="NAME", help="Weights: those of a preset.")
@click.option("--pipeline", default="", metavar="ID_OR_DIR", help="Weights: a checkpoint, for a Transformers pipeline.")
@click.option("--onnx", default="", metavar="ID_OR_DIR[:SUBFOLDER]", help="Weights: an ONNX Runtime GenAI model.")
@click.option(
    "--build-onnx", default="", metavar="ID_OR_DIR", help="Weights: a checkpoint, to build an ONNX model from."
)
@click.option("--precision", default="int4", type=click.Choice(PRECISIONS), show_default=True, help="For --build-onnx.")
@click.option("--device", type=click.Choice(DEVICES), help="For the ONNX model.  [default: PHI3_UI_DEVICE, or cpu]")
@click.option("--contract", type=click.Choice(CONTRACTS), help="Only the pipeline (chat) or the ONNX model (prompt).")
@click.option("--name", default="", help="The model's name, for weights of your own.")
@click.option("--revision", default="", metavar="COMMIT", help="A branch, tag or commit on the hub.")
@json_option("the ids of the logged models as one JSON array")
@pass_app
def log(app: App, as_json: bool, contract: str | None, device: str | None, **weights: str) -> None:
    """Fetch or build models, log them and register them.

    The weights are a preset, or your own: an id on the Hugging Face hub, or a folder.
    """
    device = device or app.settings.device
    own = weights["pipeline"] or weights["onnx"] or weights["build_onnx"]
    if weights["preset"] and (own or weights["name"]):
        raise click.UsageError("--preset names the weights; leave --pipeline, --onnx, --build-onnx and --name out")
    if contract and not weights["preset"]:
        raise click.UsageError("--contract is for a --preset; for weights of your own, name only the ones you want")
    if weights["preset"]:
        contracts = [contract] if contract else CONTRACTS
        recipe = recipe_from_preset(weights["preset"], device, contracts, weights["revision"])
    else:
        del weights["preset"]
        recipe = recipe_from_arguments(device=device, **weights)
    run_recipe(app, recipe, as_json)


def run_recipe(app: App, recipe: Recipe, as_json: bool) -> None:
    """Run a job to its end, with its progress on standard error, and print the ids of the models that it logged."""
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
        if not state.error:  # the error's sentence ends the command
            printer(state)

    return show
