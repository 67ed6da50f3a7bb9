"""The app with a SIGUSR1 handler that writes a snapshot of the process's resources to the file $PHI3_SOAK_SNAPSHOT, as JSON."""

import gc
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from fastapi import FastAPI

    from phi3_ui.settings import Settings


def main() -> None:
    sys.path[0] = os.getcwd()  # as for app.py itself, and not this folder
    from phi3_ui import server

    create_app = server.create_app

    def create_watched_app(settings: "Settings") -> "FastAPI":
        app = create_app(settings)
        signal.signal(signal.SIGUSR1, lambda *_: write_snapshot(app.state.services))
        return app

    server.create_app = create_watched_app
    server.main()


def write_snapshot(services: Any) -> None:
    """Write a checks.Snapshot."""
    gc.collect()
    process = psutil.Process()
    snapshot = {
        "threads": [thread.name for thread in threading.enumerate()],
        "answers": sum(len(model._inboxes) for model in services.pool._models.values()),
        "claims": services.quotas._running.total(),
        "streams": services.pages._streams.total(),
        "pages": len(services.pages._pages),
        "models": [model.spec.name for model in services.pool._models.values()],
        "files": process.num_fds(),
        "bytes": process.memory_full_info().uss,
    }
    file = Path(os.environ["PHI3_SOAK_SNAPSHOT"])
    file.with_suffix(".tmp").write_text(json.dumps(snapshot), encoding="utf-8")
    file.with_suffix(".tmp").replace(file)


if __name__ == "__main__":
    main()
