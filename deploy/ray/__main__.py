"""Serve the models of the store on a local Ray cluster: `python -m deploy.ray` (make serve-ray)."""

import logging
import os
import secrets
import signal
import sys
import threading
import time
from types import FrameType

from models import disable_telemetry
from phi3_ui.errors import UserError
from phi3_ui.paths import ROOT

_PORT = 8000
_APPLICATION = "phi3-chat"
_POLL_SECONDS = 0.5


def main() -> None:
    """Serve until SIGTERM or Ctrl-C, then wait for answers in flight, unless the signal is repeated.

    Exits with code 1 and one sentence on a UserError.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    disable_telemetry()
    # Ray reads these when it is imported. It listens on all interfaces, and anyone who can reach its ports can run code.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ.setdefault(
        "RAY_worker_niceness", "0"
    )  # with Ray's default of 15, any other program can starve the models
    import ray
    from ray import serve

    from deploy.ray.app import build_app
    from deploy.ray.settings import RaySettings

    try:
        settings = RaySettings.read()
    except UserError as error:
        sys.exit(str(error))
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    ray.init(address="local", include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    ended = _catch_signals()
    try:
        port = settings.server_port or _PORT
        serve.start(http_options=serve.HTTPOptions(host=settings.server_name, port=port))
        serve.run(build_app(settings), name=_APPLICATION)
        print(f"The API is at http://{settings.server_name}:{port}/v1", flush=True)
        ended.wait()
        serve.delete(_APPLICATION, _blocking=False)  # first, because `shutdown` drops connections
        while _APPLICATION in serve.status().applications:
            time.sleep(_POLL_SECONDS)
    finally:
        serve.shutdown()
        ray.shutdown()


def _catch_signals() -> threading.Event:
    """Return an event that is set at the first SIGTERM or Ctrl-C; the second exits. Call after `ray.init`, which installs its own handlers."""
    ended = threading.Event()

    def end(_: int, __: FrameType | None) -> None:
        if ended.is_set():
            sys.exit(1)
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    return ended


if __name__ == "__main__":
    main()
