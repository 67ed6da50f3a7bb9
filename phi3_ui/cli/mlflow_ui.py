"""The command mlflow-ui: MLflow's own UI on the app's store."""

import argparse
import os
import socket
import sys
from typing import Any
from urllib.parse import urlsplit

from phi3_ui.cli.app import App, add_command
from phi3_ui.errors import UserError
from phi3_ui.settings import MLFLOW_UI_PORT, Settings

_HOST = "127.0.0.1"
_SERVED = ("http:", "https:", "databricks")  # stores that have a UI of their own


def add_to(commands: Any) -> None:
    add_command(commands, "mlflow-ui", _mlflow_ui, "open MLflow's own UI on the app's store, until Ctrl-C")


def _mlflow_ui(app: App, _: argparse.Namespace) -> None:
    """Becomes MLflow's server. UserError: mlflow_port_taken."""
    settings = app.settings
    if settings.tracking_uri.startswith(_SERVED):
        print(f"The store has a UI of its own: {settings.mlflow_url or settings.tracking_uri}")
        return
    port = urlsplit(settings.mlflow_url or "").port or MLFLOW_UI_PORT
    if not _free(port):
        raise UserError("mlflow_port_taken", port=port)
    # Its jobs are for judges, which the app has no models for, and take eight more processes.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    print(f"MLflow's UI: http://{_HOST}:{port}", flush=True)
    os.execv(sys.executable, server_command(settings, port))


def server_command(settings: Settings, port: int) -> list[str]:
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", settings.tracking_uri]
    if settings.artifacts:
        command += ["--default-artifact-root", settings.artifacts]
    return [*command, "--host", _HOST, "--port", str(port), "--workers", "1"]


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True
