"""Where chats are stored: in the tracking store, or locally if that store does not support traces."""

import threading
from dataclasses import dataclass

from models.store_features import find_features
from models.tracking import Store
from phi3_ui.addresses import sqlite_uri
from phi3_ui.errors import UserError
from phi3_ui.settings import Settings
from phi3_ui.store.errors import find_rename, translate_store_errors

_LOCAL_FILE = "chats.db"


@dataclass(frozen=True)
class ChatLocation:
    """The experiment with the traces of chats."""

    tracking_uri: str
    experiment_id: str


class ChatLocator:
    """Finds the experiment for the chats, and creates it if needed. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._finding = threading.Lock()  # held while the store is queried, which may take minutes
        self._lock = threading.Lock()  # guards the attributes below
        self._location: ChatLocation | None = None
        self._notice: UserError | None = None

    @property
    def notice(self) -> UserError | None:
        """A notice for users about where their chats are; None if there is none, or it is not known yet."""
        with self._lock:
            return self._notice

    @property
    def linked_experiment_id(self) -> str | None:
        """The experiment, for links into the UI of the tracking store; None if the chats are elsewhere.

        Raises:
            UserError: See `locate`.
        """
        location = self.locate()
        return location.experiment_id if location.tracking_uri == self._settings.tracking_uri else None

    def locate(self) -> ChatLocation:
        """Return the experiment. The store is queried until it has responded once.

        Raises:
            UserError: store_unreachable, store_read_only, experiment_deleted.
        """
        with self._finding:
            if location := self._location:
                return location
            notice: UserError | None = None
            try:
                location, notice = self._find()
            except UserError as error:
                notice = error if error.code == "experiment_deleted" else None
                raise
            finally:
                with self._lock:
                    self._location, self._notice = location, notice
            return location

    def _find(self) -> tuple[ChatLocation, UserError | None]:
        settings = self._settings
        with translate_store_errors(settings.tracking_uri):
            has_traces = find_features(settings.tracking_uri).traces
        if has_traces:
            store = Store(settings.tracking_uri, settings.artifacts)
            return self._locate_in(store), find_rename(store)
        file = settings.home / _LOCAL_FILE
        notice = UserError("chats_kept_locally", uri=settings.tracking_uri, file=str(file))
        return self._locate_in(Store(sqlite_uri(file), (settings.home / "artifacts").as_uri())), notice

    @staticmethod
    def _locate_in(store: Store) -> ChatLocation:
        with translate_store_errors(store.tracking_uri):
            return ChatLocation(store.tracking_uri, store.experiment_id())
