"""Run one command and exit."""

import os
import sys
from collections.abc import Sequence

import click

from phi3_ui.cli import chat, evaluate, hash_password, log, mlflow_ui, prompt_set, store, trust
from phi3_ui.errors import UserError

_INTERRUPTED = 130  # as a shell reports Ctrl-C

_COMMANDS = (
    log.setup,
    log.log,
    store.list_models,
    store.show,
    store.register,
    store.remove,
    store.doctor,
    trust.trust,
    chat.chat,
    prompt_set.prompt_set,
    evaluate.evaluate,
    mlflow_ui.mlflow_ui,
    hash_password.hash_password,
    hash_password.create_api_key,
)


class _OrderedGroup(click.Group):
    """Lists the commands in the order of their addition, not alphabetically."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def main(arguments: Sequence[str] | None = None, more_commands: Sequence[click.Command] = ()) -> None:
    """Exit with 0, with 1 and one sentence on standard error, with 2 for wrong usage, or with 130 after Ctrl-C."""
    if sys.stdout is None:  # closed: output is discarded, and nothing else changes
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # stays open until the process exits
    group = _OrderedGroup(
        help="Phi-3 Chat on MLflow.",
        epilog="MODEL is a model id, a name (its newest model), name@alias, name/version, or a models:/ URI.",
        commands={str(command.name): command for command in (*more_commands, *_COMMANDS)},
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )
    program = os.path.basename(sys.argv[0])
    prog_name = program if program == "phi3-chat" else "python -m phi3_ui"
    try:
        code = group.main(arguments, prog_name, standalone_mode=False)
        _flush()
    except UserError as error:
        sys.exit(str(error))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:  # the reader of our output closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(code)


def _flush() -> None:
    """Flush standard output. Raises UserError("output_write_failed") if it cannot be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # The rest of the buffer would fail again on exit.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # stays open until the process exits
        raise UserError("output_write_failed", detail=str(error.strerror)) from error
