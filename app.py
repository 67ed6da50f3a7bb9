"""Composition root: settings → services → the page, on a laptop, a server or a Hugging Face Space."""

import atexit
import gc
import logging
import signal
import sys

from phi3_ui.cli.console import show_setup
from phi3_ui.errors import UserError
from phi3_ui.host.pool import Pool
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from phi3_ui.store.conversations.open_store import open_conversation_store
from phi3_ui.store.links import MlflowUi
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.ui.render.mlflow_links import MlflowLinks
from phi3_ui.ui.sessions import Sessions

_STOP_SECONDS = 3.0  # for each answer under way when the app is told to end


def main() -> None:
    """Start the set-up and the page, and stay until told to end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = Settings.read()
    except UserError as error:
        sys.exit(str(error))
    catalogue = Catalogue(settings.tracking_uri, settings.catalogue)
    setup = FirstRun(settings, catalogue, show_setup)
    pool = Pool(settings.logs, settings.max_loaded_models, settings.idle_seconds, max_answers=settings.max_answers)
    keeper, experiment_id = open_conversation_store(settings)
    sessions, mlflow = Sessions(), MlflowLinks(MlflowUi(settings.mlflow_url), experiment_id)
    # The other way round: what is being answered is stopped and kept, then the models end, then the store gets what is left.
    atexit.register(keeper.recorder.close)
    atexit.register(pool.close)
    atexit.register(sessions.stop_all, _STOP_SECONDS)
    signal.signal(signal.SIGTERM, end)

    gc.disable()  # what is imported stays: looking through it again and again takes half a second
    import phi3_ui.ui.quick_gradio  # noqa: F401
    from phi3_ui.server import launch

    gc.freeze()
    gc.enable()
    setup.start()
    try:
        launch(settings, catalogue, pool, setup, keeper, sessions, mlflow)
    except UserError as error:
        sys.exit(str(error))


def end(*_: object) -> None:
    """End in good order; a second signal, as a terminal's group may send, does not interrupt that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


if __name__ == "__main__":
    main()
