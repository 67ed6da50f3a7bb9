"""Opens the conversations of the configured store, for the page and the command line alike."""

from collections.abc import Callable
from functools import cache

from models.tracking import Store
from phi3_ui import __version__
from phi3_ui.settings import Settings
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.conversations.turn_writer import ConversationStore


def open_conversation_store(settings: Settings) -> tuple[ConversationStore, Callable[[], str]]:
    """The store's conversations, and a function that returns the id of their experiment.

    The caller must close the store's recorder. The experiment is created by the first call of the function.
    """
    experiment_id = cache(Store(settings.tracking_uri, settings.artifacts).experiment_id)
    recorder = Recorder(settings.tracking_uri, experiment_id, settings.home / "journal")
    history = History(settings.tracking_uri, experiment_id, recorder)
    return ConversationStore(recorder, history, __version__), experiment_id
