"""`evaluate`: the questions of a file or a prompt set, answered by models in MLflow runs."""

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
@click.option("--set", "set_name", metavar="NAME", help="Ask this prompt set, NAME or NAME/VERSION, instead of a FILE.")
@click.option(
    "--chat", type=_FILE, metavar="FILE", help="Replay the chats of this file, as saved by the page, instead."
)
@click.option("--baseline", metavar="MODEL", help="The model that the candidate is compared with.")
@click.option("--candidate", metavar="MODEL", help="The model that passes or fails.")
@click.option(
    "--fail-if", "conditions", multiple=True, metavar="CONDITION", help="Such as: exact_match < baseline - 0.02"
)
@click.option("--promote", "is_promoting", is_flag=True, help="Move the baseline's alias to a candidate that passes.")
@click.option(
    "--scorer", "scorers", multiple=True, metavar="SPEC", help="Such as exact_match, length=..80, json_schema=@FILE."
)
@click.option("--own-scorer", "own_scorers", multiple=True, metavar="FILE.py:NAME", help="A scorer in Python.")
@click.option("--judge", metavar="MODEL", help="A model that judges, or “URL MODEL”. Default: PHI3_UI_JUDGE.")
@click.option(
    "--criterion", metavar="TEXT", help="What the judge judges by; asks PHI3_UI_JUDGE if no --judge is given."
)
@click.option(
    "--preset",
    "presets",
    multiple=True,
    type=click.Choice([preset.name for preset in PARAM_PRESETS]),
    help="Parameters; given more than once, each model is asked with each.",
)
@click.option("--repeats", type=click.IntRange(1, 100), default=1, help="Ask everything so often, with other seeds.")
@click.option("--resume", metavar="ID", help="Continue an evaluation that was interrupted.")
@click.option("--junit", type=_FILE, metavar="FILE", help="Write the conditions there, as JUnit XML.")
@click.option("--output", type=_FILE, metavar="FILE", help="Write the answers there too, as .jsonl.")
@answer_options
@json_option("the verdict, or the run's id and metrics, as one JSON object")
@pass_app
def evaluate(
    app: App, arguments: tuple[str, ...], options: AnswerOptions, *, output: Path | None, as_json: bool, **others: Any
) -> int | None:
    """Ask models the questions of a FILE or of a prompt set, and log answers and metrics in MLflow runs.

    FILE is .txt, with one question per line, or .jsonl or .csv, with the questions in the field "prompt". With --candidate,
    the exit code is 1 if a condition of --fail-if holds.
    """
    if others["set_name"] or others["chat"] or others["resume"]:
        from phi3_ui.cli.evaluate_set import (
            SetOptions,
            evaluate_set,
        )  # takes half a second, which no other command waits

        return evaluate_set(app, SetOptions(arguments, output=output, as_json=as_json, **others), options)
    given = [name for name, value in others.items() if value and name != "repeats"]
    if given or len(arguments) != len(("MODEL", "FILE")):
        raise click.UsageError("Give MODEL and FILE, or MODEL and --set NAME or --chat FILE.")
    _evaluate_file(app, arguments[0], Path(arguments[1]), options, output, as_json)
    return None


def _evaluate_file(  # noqa: PLR0913  # what the command line gives
    app: App, model: str, file: Path, options: AnswerOptions, output: Path | None, as_json: bool
) -> None:
    """Ask one model the questions of a file, in a run that any store can hold, also one without traces."""
    entry = app.find(model)
    options.check(entry)
    questions = [record.messages for record in read_records(file, options.system)]
    with app.open_models() as models:
        evaluation = FileEvaluation(entry, models.open(entry, options.template), options.params, file)
        with contextlib.redirect_stdout(sys.stderr):  # MLflow prints the addresses of runs on a server
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
