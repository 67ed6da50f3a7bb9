"""`evaluate`: questions from a file, answers and figures into a run of the tracking store."""

import argparse
import sys
from pathlib import Path
from typing import Any

from models.tracking import Store
from phi3_ui.cli.app import (
    App,
    add_command,
    add_json,
    add_model,
    add_params,
    model_spec,
    params_from_arguments,
    print_json,
)
from phi3_ui.errors import UserError
from phi3_ui.evaluation.evaluate import Evaluation, read_questions
from phi3_ui.host.pool import Pool


def add_to(commands: Any) -> None:
    parser = add_command(commands, "evaluate", _evaluate, "ask a model what a file asks, and log answers and figures")
    add_model(parser)
    parser.add_argument(
        "file", metavar="FILE", type=Path, help=".txt, a question a line; .jsonl or .csv, in the field prompt"
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="write the answers there too, as .jsonl")
    add_params(parser)
    add_json(parser, "the run's id and metrics as one JSON object")


def _evaluate(app: App, parsed: argparse.Namespace) -> None:
    """UserError("no_answers") if no question was."""
    entry = app.find(parsed.model)
    params, questions = params_from_arguments(entry, parsed), read_questions(parsed.file, parsed.system)
    pool = Pool(app.settings.logs, 1, app.settings.idle_seconds)
    try:
        evaluation = Evaluation(entry, pool.get_model(model_spec(app, entry, parsed)), params, parsed.file)
        done = evaluation.run(Store(app.settings.tracking_uri, app.settings.artifacts), questions, _progress)
    finally:
        pool.close()
    if parsed.output:
        done.write(parsed.output)
    if parsed.json:
        print_json({"run_id": done.run_id, "metrics": done.metrics})
    else:
        print(done.run_id)
    if done.metrics["answers"] == 0:
        raise UserError("no_answers", detail=str(done.rows[0]["error"]))


def _progress(done: int, total: int) -> None:
    print(f"{done} / {total}", file=sys.stderr, flush=True)
