"""`evaluate`: ask models the questions of a file or a prompt set, and log the answers in MLflow runs."""

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

from models.tracking import Store
from phi3_ui.chat.presets import PARAM_PRESETS
from phi3_ui.cli.app import AnswerOptions, App, answer_options, json_option, pass_app, print_json
from phi3_ui.errors import UserError
from phi3_ui.evaluation.file_evaluation import FileEvaluation
from phi3_ui.evaluation.questions import read_records

_FILE = click.Path(path_type=Path)


@click.command(short_help="Ask models the questions of a file or a prompt set.")
@click.argument("arguments", nargs=-1, metavar="MODEL... [FILE]")
@click.option("--set", "set_name", metavar="NAME", help="Use this prompt set, NAME or NAME/VERSION, instead of a FILE.")
@click.option(
    "--chat", type=_FILE, metavar="FILE", help="Instead, replay the chats in this file, as saved by the page."
)
@click.option("--baseline", metavar="MODEL", help="The model to compare the candidate with.")
@click.option("--candidate", metavar="MODEL", help="The model under test, which passes or fails.")
@click.option(
    "--fail-if",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="The candidate fails if this holds. Example: exact_match < baseline - 0.02",
)
@click.option(
    "--promote", "is_promoting", is_flag=True, help="Move the baseline's alias to the candidate if it passes."
)
@click.option(
    "--scorer",
    "scorers",
    multiple=True,
    metavar="SPEC",
    help="A scorer, such as exact_match, length=..80 or json_schema=@FILE.",
)
@click.option(
    "--own-scorer", "own_scorers", multiple=True, metavar="FILE.py:NAME", help="A custom scorer, written in Python."
)
@click.option(
    "--judge", metavar="MODEL", help="The model to judge the answers, or “URL MODEL”. Default: PHI3_UI_JUDGE."
)
@click.option("--criterion", metavar="TEXT", help="The judge's criterion. Without --judge, PHI3_UI_JUDGE is the judge.")
@click.option(
    "--preset",
    "presets",
    multiple=True,
    type=click.Choice([preset.name for preset in PARAM_PRESETS]),
    help="Sampling parameters by name. If repeated, each model is evaluated with each preset.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1, 100),
    default=1,
    help="Ask every question this many times, with different seeds.",
)
@click.option("--resume", metavar="ID", help="Resume an interrupted evaluation.")
@click.option("--junit", type=_FILE, metavar="FILE", help="Write the outcome of each condition to FILE, as JUnit XML.")
@click.option("--output", type=_FILE, metavar="FILE", help="Also write the answers to FILE, as JSON Lines.")
@answer_options
@json_option("the verdict, or the run's id and metrics, as one JSON object")
@pass_app
def evaluate(
    app: App, arguments: tuple[str, ...], options: AnswerOptions, *, output: Path | None, as_json: bool, **others: Any
) -> int | None:
    """Ask models the questions of a FILE or a prompt set, and log answers and metrics in MLflow runs.

    FILE is .txt, with one question per line, or .jsonl or .csv, with the questions in the field "prompt". With --candidate,
    the exit code is 1 if a --fail-if condition holds.
    """
    if others["set_name"] or others["chat"] or others["resume"]:
        # This import takes half a second; the other commands do without it.
        from phi3_ui.cli.evaluate_set import SetOptions, evaluate_set

        return evaluate_set(app, SetOptions(arguments, output=output, as_json=as_json, **others), options)
    given = [name for name, value in others.items() if value and name != "repeats"]
    if given or len(arguments) != len(("MODEL", "FILE")):
        raise click.UsageError("Give MODEL and FILE, or MODEL with --set NAME or --chat FILE.")
    _evaluate_file(app, arguments[0], Path(arguments[1]), options, output, as_json)
    return None


def _evaluate_file(  # noqa: PLR0913  # one for each option
    app: App, model: str, file: Path, options: AnswerOptions, output: Path | None, as_json: bool
) -> None:
    """Ask one model the questions of a file, in a run that works with any store, even one without traces."""
    entry = app.find(model)
    options.check(entry)
    questions = [record.messages for record in read_records(file, options.system)]
    with app.open_models() as models:
        evaluation = FileEvaluation(entry, models.open(entry, options.template), options.params, file)
        with contextlib.redirect_stdout(sys.stderr):  # MLflow prints the URLs of runs on a server
            result = evaluation.run(
                Store(app.settings.tracking_uri, app.settings.artifacts), questions, _print_progress
            )
    if output:
        result.write(output)
    if as_json:
        print_json({"run_id": result.run_id, "metrics": result.metrics})
    else:
        print(result.run_id)
    if result.metrics["answers"] == 0:
        raise UserError("no_answers", detail=str(result.rows[0]["error"]))


def _print_progress(done: int, total: int) -> None:
    print(f"{done} / {total}", file=sys.stderr, flush=True)
