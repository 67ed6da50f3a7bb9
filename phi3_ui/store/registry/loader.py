"""Loads the models of the store: what is admitted, in the pool."""

from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.pool import Pool
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.settings import Settings
from phi3_ui.store.registry.admission import Admission
from phi3_ui.store.registry.cards import ModelEntry


class ModelLoader:
    """Starts models in their processes. Thread-safe."""

    def __init__(self, settings: Settings, admission: Admission, pool: Pool) -> None:
        self._settings = settings
        self._admission = admission
        self._pool = pool

    def load(self, entry: ModelEntry) -> HostedModel:
        """The model in its process, where it begins to load if need be. UserError: model_not_trusted, too_many_models."""
        self._admission.require(entry)  # or another model would be unloaded for one that is refused
        return self._pool.get_model(self._describe(entry))

    def _describe(self, entry: ModelEntry) -> ModelSpec:
        return ModelSpec(
            entry.model_id,
            entry.name,
            entry.uri,
            entry.contract,
            entry.tracking_uri,
            cache_mb=self._settings.cache_mb,
            folder=entry.folder,
            folders=self._settings.model_folders,
            variables=self._settings.model_variables,
        )
