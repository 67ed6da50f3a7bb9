"""`python -m phi3_ui …`: the same services without a browser."""

import argparse
import errno
import logging
import os
import sys
import traceback

from phi3_ui.cli import chat, evaluate, log, mlflow_ui, store
from phi3_ui.cli.app import App
from phi3_ui.errors import UserError
from phi3_ui.settings import Settings
from phi3_ui.store.registry.catalogue import Catalogue

_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit: 0, or 1 with one sentence on standard error, or 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m phi3_ui",
        description="Phi-3 Chat on MLflow, without a browser.",
        epilog="A MODEL is a model id, a name (the newest of that name), name@alias, name/version, or a models:/ URI.",
    )
    if sys.stdout is None:  # closed: what would be printed goes nowhere, and nothing else changes
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in (log, store, chat, evaluate, mlflow_ui):
        group.add_to(commands)
    parsed, left = parser.parse_known_args(arguments)
    if getattr(parsed, "prompt", "") is None and len(left) == 1 and not left[0].startswith("-"):
        parsed.prompt = left.pop()  # argparse finds an argument that may be left out only before the options
    if left:
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    # What they have to say, an error's sentence says.
    for library in ("mlflow", "alembic", "phi3_ui.host.hosted_model"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    try:
        settings = Settings.read()
        code = _run(parsed, settings)
        _flush()
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:  # who read our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(code)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (what is left would fail at the exit once more)
        raise UserError("output_write_failed", detail=str(error.strerror)) from error


def _run(parsed: argparse.Namespace, settings: Settings) -> int:
    """The exit code of a command; UserError for all that goes wrong but a closed pipe."""
    try:
        settings.logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError("not_writable", folder=str(settings.home)) from error
    try:
        return int(parsed.run(App(settings, Catalogue(settings.tracking_uri, settings.catalogue)), parsed) or 0)
    except (UserError, BrokenPipeError):
        raise
    except PermissionError as error:
        raise UserError("not_writable", folder=str(error.filename or settings.home)) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise UserError("output_write_failed", detail=str(error.strerror)) from error
        with (settings.logs / "command.log").open("a", encoding="utf-8") as trace:
            traceback.print_exc(file=trace)
        raise UserError("unexpected", detail=type(error).__name__) from error
