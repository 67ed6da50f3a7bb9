"""The models of the tracking store, each in its own process."""

import time
from collections.abc import Sequence

from phi3_ui.chat.types import Message
from phi3_ui.errors import UserError
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.pool import Pool
from phi3_ui.settings import Settings
from phi3_ui.sources.model_source import OpenState
from phi3_ui.store.registry.admission import Admission
from phi3_ui.store.registry.cards import ModelCard, ModelEntry
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.doctor import Diagnosis, diagnose
from phi3_ui.store.registry.specs import build_spec


class StoreSource:
    """A ModelSource over the admitted models of the store, loaded in the pool. Thread-safe."""

    def __init__(self, settings: Settings, catalogue: Catalogue, admission: Admission, pool: Pool) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._admission = admission
        self._pool = pool

    def list_models(self) -> list[ModelEntry]:
        """See ModelSource. The newest model comes first."""
        return self._catalogue.list_models()

    def find(self, name: str | None) -> ModelEntry:
        """See ModelSource."""
        return self._catalogue.find(name)

    def is_usable(self, entry: ModelEntry) -> bool:
        """See ModelSource."""
        return self._admission.is_loadable(entry)

    def require(self, entry: ModelEntry) -> None:
        """See ModelSource. Raises UserError: model_not_trusted, model_unreadable."""
        self._admission.require(entry)

    def open(self, entry: ModelEntry, template: str | None = None) -> HostedModel:
        """See ModelSource."""
        self.require(entry)  # first, so that no other model is evicted for a refused one
        return self._pool.get_model(build_spec(self._settings, entry, template))

    def get_state(self, entry: ModelEntry) -> OpenState:
        """See ModelSource."""
        model = self._pool.peek(entry.model_id)
        if model is None:
            return OpenState()
        if not model.ready.done():
            return OpenState("loading", time.monotonic() - model.started)
        if isinstance(error := model.ready.exception(), UserError):
            return OpenState("failed", error=error)
        if not model.is_alive:
            return OpenState(cache=model.cache_use)
        return OpenState("ready", streaming=model.ready.result(), cache=model.cache_use, batching=model.batching)

    def list_ready(self) -> list[str]:
        """See ModelSource."""
        return self._pool.list_loaded()

    def load_card(self, entry: ModelEntry) -> ModelCard:
        """See ModelSource."""
        return self._catalogue.load_card(entry.model_id)

    def diagnose(self, entry: ModelEntry) -> Diagnosis:
        """See ModelSource."""
        return diagnose(self._catalogue.tracking_uri, entry.model_id)

    def count_tokens(
        self, entry: ModelEntry, prompts: Sequence[Sequence[Message]], template: str | None
    ) -> tuple[int, ...] | None:
        """See ModelSource. Counts only while the model is loaded and idle."""
        model = self._pool.peek(entry.model_id)
        return model.count_tokens(prompts, template) if model else None
