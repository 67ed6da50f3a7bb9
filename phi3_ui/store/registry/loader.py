"""Loads the models of the store: what is admitted, in the pool."""

from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.pool import Pool
from phi3_ui.settings import Settings
from phi3_ui.store.registry.admission import Admission
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.store.registry.specs import build_spec


class ModelLoader:
    """Starts models in their processes. Thread-safe."""

    def __init__(self, settings: Settings, admission: Admission, pool: Pool) -> None:
        self._settings = settings
        self._admission = admission
        self._pool = pool

    def load(self, entry: ModelEntry) -> HostedModel:
        """The model in its process, where it begins to load if need be. UserError: model_not_trusted, too_many_models."""
        self._admission.require(entry)  # or another model would be unloaded for one that is refused
        return self._pool.get_model(build_spec(self._settings, entry))
