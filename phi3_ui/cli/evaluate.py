"""`evaluate`: the questions of a file, answered by one model in an MLflow run."""

import contextlib
import sys
from pathlib import Path

import click

from models.tracking import Store
from phi3_ui.cli.app import (
    AnswerOptions,
    App,
    answer_options,
    json_option,
    model_argument,
    model_spec,
    pass_app,
    print_json,
)
from phi3_ui.errors import UserError
from phi3_ui.evaluation.evaluate import Evaluation
from phi3_ui.evaluation.questions import read_records
from phi3_ui.host.pool import Pool
from phi3_ui.store.registry.admission import open_admission


@click.command(short_help="Ask a model the questions of a file.")
@model_argument
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the answers there too, as .jsonl."
)
@answer_options
@json_option("the run's id and metrics as one JSON object")
@pass_app
def evaluate(  # noqa: PLR0913  # one argument for each of the command line's
    app: App, model: str, file: Path, output: Path | None, options: AnswerOptions, *, as_json: bool
) -> None:
    """Ask a model the questions of a file, and log its answers and metrics.

    FILE is .txt, with one question per line, or .jsonl or .csv, with the questions in the field "prompt".
    """
    entry = app.find(model)
    options.check(entry)
    questions = [record.messages for record in read_records(file, options.system)]
    pool = Pool(app.settings.logs, 1, app.settings.idle_seconds, open_admission(app.settings).admit)
    try:
        evaluation = Evaluation(entry, pool.get_model(model_spec(app, entry, options)), options.params, file)
        with contextlib.redirect_stdout(sys.stderr):  # MLflow prints the addresses of runs on a server
            result = evaluation.run(
                Store(app.settings.tracking_uri, app.settings.artifacts), questions, _print_progress
            )
    finally:
        pool.close()
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
