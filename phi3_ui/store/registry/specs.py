"""Builds the spec from which a process loads a model of the store."""

from phi3_ui.host.protocol import ModelSpec
from phi3_ui.settings import Settings
from phi3_ui.store.registry.cards import ModelEntry


def build_spec(settings: Settings, entry: ModelEntry, template: str | None = None) -> ModelSpec:
    """Return the spec of `entry`; `template` overrides the prompt template stored for it."""
    return ModelSpec(
        entry.model_id,
        entry.name,
        entry.uri,
        entry.contract,
        entry.tracking_uri,
        template or entry.template,
        settings.cache_mb,
        entry.folder,
        folders=settings.model_folders,
        variables=settings.model_variables,
    )
