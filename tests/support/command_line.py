"""Run the command line in this process: seconds faster than a new one, which has to import MLflow."""

import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from phi3_ui.cli.main import main
from tests.support.env import environment


@dataclass(frozen=True)
class CommandResult:
    """The exit code and output of a command."""

    returncode: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """Return the parsed standard output. Raise AssertionError if the command failed."""
        assert self.returncode == 0, self.stderr
        return json.loads(self.stdout)


RunCommand = Callable[..., CommandResult]
"""`run(home, *arguments, stdin="", **variables)` runs a command with this home folder and these environment variables."""


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[RunCommand]:
    quiet = ("mlflow", "alembic", "phi3_ui.host.hosted_model", "phi3_ui.host.remote")
    levels = {name: logging.getLogger(name).level for name in quiet}

    def run(home: Path, *arguments: object, stdin: str = "", **variables: str) -> CommandResult:
        env = environment(home, **variables)
        for name in os.environ.keys() - env.keys():
            monkeypatch.delenv(name)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as exit_info:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = exit_info.value.code
        if isinstance(code, str):  # the interpreter prints it on exit
            return CommandResult(1, out, f"{err}{code}\n")
        return CommandResult(code or 0, out, err)

    yield run
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
