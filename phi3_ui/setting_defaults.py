"""The defaults of settings that depend on other settings, or on where the app runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phi3_ui.addresses import page_url, sqlite_uri
from phi3_ui.paths import ROOT

MLFLOW_UI_PORT = 5001  # MLflow's own default, 5000, is often taken by another server

STORE_FILE = "mlflow.db"
"""The file name of the store in `Settings.home`."""

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
LOOPBACK_NETWORKS = ("127.0.0.0/8", "::1")
PRIVATE_NETWORKS = (*LOOPBACK_NETWORKS, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")


def default_home(is_space: bool = False) -> Path:
    """Return `data` in a checkout; for an installed app, a folder of this user, regardless of the working directory.

    A Space also uses the user's folder, since the code's may be read-only.
    """
    if (ROOT / "pyproject.toml").is_file() and not is_space:
        return ROOT / "data"
    from platformdirs import user_data_path

    return user_data_path("phi3-chat", appauthor=False)


def own_store_uri(home: Path) -> str:
    """Return the URI of the store in `home`."""
    return sqlite_uri(home / STORE_FILE)


def is_personal(fields: Mapping[str, Any]) -> bool:
    """Return whether only this machine can reach the page, so that its user is the administrator."""
    return fields["server_name"] in LOOPBACK_HOSTS and not fields["space_id"]


def default_mlflow_url(fields: Mapping[str, Any]) -> str | None:
    """Return the URL of the tracking server or, for other stores and a browser on this machine, of the command `mlflow-ui`."""
    tracking_uri = fields["tracking_uri"]
    if tracking_uri.startswith(("http:", "https:")):
        return page_url(tracking_uri)
    # For visitors from other machines, the link would point to their own machine.
    is_served_here = is_personal(fields) and not tracking_uri.startswith("databricks")
    return f"http://127.0.0.1:{MLFLOW_UI_PORT}" if is_served_here else None
