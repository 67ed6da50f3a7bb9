"""All models: those of the tracking store, then those of remote servers."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from phi3_ui.chat.types import Message
from phi3_ui.remote_servers import REMOTE_PREFIX
from phi3_ui.sources.model_source import ModelSource, OpenModel, OpenState
from phi3_ui.sources.remote_source import RemoteSource
from phi3_ui.sources.store_source import StoreSource
from phi3_ui.store.registry.cards import ModelCard, ModelEntry
from phi3_ui.store.registry.doctor import Diagnosis


class AllModels:
    """The ModelSource that the app uses. Thread-safe."""

    def __init__(self, store: StoreSource, remote: RemoteSource) -> None:
        self._store = store
        self.remote = remote

    def list_models(self) -> list[ModelEntry]:
        """See ModelSource."""
        return [*map(self._add_server_details, self._store.list_models()), *self.remote.list_models()]

    def list_usable(self) -> list[ModelEntry]:
        """Return the models that may be opened."""
        return [entry for entry in self.list_models() if self.is_usable(entry)]

    def find(self, name: str | None) -> ModelEntry:
        """See ModelSource."""
        if name and name.startswith(REMOTE_PREFIX):
            return self.remote.find(name)
        return self._add_server_details(self._store.find(name))

    def is_usable(self, entry: ModelEntry) -> bool:
        """See ModelSource."""
        return self._find_source(entry).is_usable(entry)

    def require(self, entry: ModelEntry) -> None:
        """See ModelSource."""
        self._find_source(entry).require(entry)

    def open(self, entry: ModelEntry, template: str | None = None) -> OpenModel:
        """See ModelSource."""
        return self._find_source(entry).open(entry, template)

    def get_state(self, entry: ModelEntry) -> OpenState:
        """See ModelSource."""
        return self._find_source(entry).get_state(entry)

    def list_ready(self) -> list[str]:
        """See ModelSource."""
        return [*chain(self._store.list_ready(), self.remote.list_ready())]

    def load_card(self, entry: ModelEntry) -> ModelCard:
        """See ModelSource."""
        if entry.is_unlogged:
            return self.remote.load_card(entry)
        card = self._store.load_card(entry)
        return replace(card, entry=self._add_server_details(card.entry))

    def diagnose(self, entry: ModelEntry) -> Diagnosis:
        """See ModelSource."""
        return self._find_source(entry).diagnose(entry)

    def count_tokens(
        self, entry: ModelEntry, prompts: Sequence[Sequence[Message]], template: str | None
    ) -> tuple[int, ...] | None:
        """See ModelSource."""
        return self._find_source(entry).count_tokens(entry, prompts, template)

    def _add_server_details(self, entry: ModelEntry) -> ModelEntry:
        return self.remote.add_server_details(entry) if entry.is_remote else entry

    def _find_source(self, entry: ModelEntry) -> ModelSource:
        return self.remote if entry.is_remote else self._store
