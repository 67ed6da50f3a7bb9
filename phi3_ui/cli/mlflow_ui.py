"""`mlflow-ui`: serve MLflow's own UI for the app's store."""

import os
import socket
import sys
from urllib.parse import urlsplit

import click

from phi3_ui.cli.app import pass_settings
from phi3_ui.errors import UserError
from phi3_ui.setting_defaults import MLFLOW_UI_PORT
from phi3_ui.settings import Settings

_HOST = "127.0.0.1"
_REMOTE_STORES = ("http:", "https:", "databricks")  # they have their own UI


@click.command("mlflow-ui")
@pass_settings
def mlflow_ui(settings: Settings) -> None:
    """Serve MLflow's own UI for the app's store until Ctrl-C."""
    if settings.tracking_uri.startswith(_REMOTE_STORES):
        print(f"The store has its own UI: {settings.mlflow_url or settings.tracking_uri}")
        return
    port = urlsplit(settings.mlflow_url or "").port or MLFLOW_UI_PORT
    if not _is_free(port):
        raise UserError("mlflow_port_taken", port=port)
    # MLflow's jobs run judges, for which the app has no models, and cost eight more processes.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    print(f"MLflow's UI: http://{_HOST}:{port}", flush=True)
    os.execv(sys.executable, build_server_command(settings, port))  # noqa: S606  # no shell is involved


def build_server_command(settings: Settings, port: int) -> list[str]:
    """Return the command that serves MLflow's UI for the store of `settings`."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", settings.tracking_uri]
    if settings.artifacts:
        command += ["--default-artifact-root", settings.artifacts]
    return [*command, "--host", _HOST, "--port", str(port), "--workers", "1"]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True
