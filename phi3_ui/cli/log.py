"""The commands that make models and log them: setup, log."""

import argparse
import contextlib
import sys
from collections.abc import Callable
from typing import Any

from phi3_ui.cli.app import App, add_command, add_json, print_json
from phi3_ui.cli.console import SetupPrinter
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.provision.jobs import Job, JobState
from phi3_ui.provision.recipes import CONTRACTS, DEVICES, PRECISIONS, Recipe, recipe_from_arguments, recipe_from_preset


def add_to(commands: Any) -> None:
    add_command(commands, "setup", _setup, "make and log the models of PHI3_UI_PRESET, if the store has none")
    parser = add_command(commands, "log", _log, "fetch or build models, log them and register them")
    weights = parser.add_argument_group("weights: a preset, or one's own, as an id of the hub or a folder")
    weights.add_argument("--preset", default="", metavar="NAME")
    weights.add_argument(
        "--pipeline", default="", metavar="ID_OR_DIR", help="a checkpoint, for the Transformers pipeline"
    )
    weights.add_argument("--onnx", default="", metavar="ID_OR_DIR[:SUBFOLDER]", help="an ONNX Runtime GenAI model")
    weights.add_argument(
        "--build-onnx", default="", metavar="ID_OR_DIR", help="a checkpoint, to build an ONNX model from"
    )
    parser.add_argument("--precision", default="int4", choices=PRECISIONS, help="of --build-onnx (default: int4)")
    parser.add_argument(
        "--device", choices=DEVICES, help="what the ONNX model is for (default: PHI3_UI_DEVICE, or cpu)"
    )
    parser.add_argument(
        "--contract", choices=CONTRACTS, help="of a preset, the pipeline (chat) or the ONNX model (prompt) alone"
    )
    parser.add_argument("--name", default="", help="what to call weights of one's own")
    parser.add_argument("--revision", default="", metavar="COMMIT", help="a branch, tag or commit of the hub")
    add_json(parser, "the ids of the logged models as one JSON array")
    parser.set_defaults(wrong_usage=parser.error)


def _setup(app: App, parsed: argparse.Namespace) -> None:
    setup = FirstRun(app.settings, app.catalogue, SetupPrinter())
    setup.start()
    state = setup.wait()
    if state.error:
        raise state.error


def _log(app: App, parsed: argparse.Namespace) -> None:
    own = parsed.pipeline or parsed.onnx or parsed.build_onnx
    if parsed.preset and (own or parsed.name):
        parsed.wrong_usage("--preset names the weights; leave --pipeline, --onnx, --build-onnx and --name out")
    if parsed.contract and not parsed.preset:
        parsed.wrong_usage("--contract is for a --preset; of weights of one's own, name only those that are wanted")
    run_recipe(app, _recipe(parsed, parsed.device or app.settings.device), parsed.json)


def _recipe(parsed: argparse.Namespace, device: str) -> Recipe:
    if parsed.preset:
        contracts = [parsed.contract] if parsed.contract else CONTRACTS
        return recipe_from_preset(parsed.preset, device, contracts, parsed.revision)
    return recipe_from_arguments(
        pipeline=parsed.pipeline,
        onnx=parsed.onnx,
        build_onnx=parsed.build_onnx,
        precision=parsed.precision,
        device=device,
        name=parsed.name,
        revision=parsed.revision,
    )


def run_recipe(app: App, recipe: Recipe, as_json: bool) -> None:
    """Run a job to its end, with its progress on standard error, and print the ids of the models that it logged."""
    with contextlib.redirect_stdout(sys.stderr):
        made = Job(app.settings, recipe, _progress_printer()).run()
    if as_json:
        print_json(made)
        return
    for model_id in made:
        print(model_id)


def _progress_printer() -> Callable[[JobState], None]:
    printer = SetupPrinter()

    def show(state: JobState) -> None:
        if not state.error:  # the error's sentence ends the command
            printer(state)

    return show
