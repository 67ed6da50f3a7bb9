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
    """The ModelSource that the app works with. Thread-safe."""

    def __init__(self, store: StoreSource, remote: RemoteSource) -> None:
        self._store = store
        self.remote = remote

    def list_models(self) -> list[ModelEntry]:
        """As ModelSource."""
        return [*map(self._adopt, self._store.list_models()), *self.remote.list_models()]

    def list_usable(self) -> list[ModelEntry]:
        """The models that may be opened."""
        return [entry for entry in self.list_models() if self.is_usable(entry)]

    def find(self, name: str | None) -> ModelEntry:
        """As ModelSource."""
        if name and name.startswith(REMOTE_PREFIX):
            return self.remote.find(name)
        return self._adopt(self._store.find(name))

    def is_usable(self, entry: ModelEntry) -> bool:
        """As ModelSource."""
        return self._source_of(entry).is_usable(entry)

    def require(self, entry: ModelEntry) -> None:
        """As ModelSource."""
        self._source_of(entry).require(entry)

    def open(self, entry: ModelEntry, template: str | None = None) -> OpenModel:
        """As ModelSource."""
        return self._source_of(entry).open(entry, template)

    def get_state(self, entry: ModelEntry) -> OpenState:
        """As ModelSource."""
        return self._source_of(entry).get_state(entry)

    def list_ready(self) -> list[str]:
        """As ModelSource."""
        return [*chain(self._store.list_ready(), self.remote.list_ready())]

    def load_card(self, entry: ModelEntry) -> ModelCard:
        """As ModelSource."""
        if entry.is_unlogged:
            return self.remote.load_card(entry)
        card = self._store.load_card(entry)
        return replace(card, entry=self._adopt(card.entry))

    def diagnose(self, entry: ModelEntry) -> Diagnosis:
        """As ModelSource."""
        return self._source_of(entry).diagnose(entry)

    def count_tokens(
        self, entry: ModelEntry, prompts: Sequence[Sequence[Message]], template: str | None
    ) -> tuple[int, ...] | None:
        """As ModelSource."""
        return self._source_of(entry).count_tokens(entry, prompts, template)

    def _adopt(self, entry: ModelEntry) -> ModelEntry:
        return self.remote.adopt(entry) if entry.is_remote else entry

    def _source_of(self, entry: ModelEntry) -> ModelSource:
        return self.remote if entry.is_remote else self._store
