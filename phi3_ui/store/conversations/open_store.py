"""Opens the conversations of the configured store, for the page and the command line."""

from phi3_ui import __version__
from phi3_ui.settings import Settings
from phi3_ui.store.conversations.history import History
from phi3_ui.store.conversations.location import ChatLocator
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.conversations.turn_writer import ConversationStore


def open_conversation_store(settings: Settings) -> tuple[ConversationStore, ChatLocator]:
    """Open the conversation store and its locator. The caller must close the store's recorder."""
    locator = ChatLocator(settings)
    recorder = Recorder(locator.locate, settings.home / "journal")
    history = History(locator.locate, recorder)
    return ConversationStore(recorder, history, __version__), locator
