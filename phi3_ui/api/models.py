"""The models of the store, under the names that requests may use."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from phi3_ui.api.errors import ApiError
from phi3_ui.errors import UserError
from phi3_ui.sources.all_models import AllModels
from phi3_ui.store.registry.cards import ModelEntry, RegisteredVersion
from phi3_ui.store.registry.catalogue import Catalogue


class Models(Protocol):
    """The models that requests may name. Thread-safe."""

    def list(self) -> list[dict[str, Any]]:
        """Return every name of each model, in OpenAI's format."""
        ...

    def find(self, name: str) -> ModelEntry:
        """Return the model with this name. Raises ApiError 404 if there is none."""
        ...


class ApiModels:
    """Lists and finds models. Thread-safe. Methods raise UserError("store_unreachable") if the store fails."""

    def __init__(self, catalogue: Catalogue, models: AllModels) -> None:
        self._catalogue = catalogue
        self._models = models

    def list(self) -> list[dict[str, Any]]:
        """Return every name of each model that may be loaded, in OpenAI's format."""
        usable = {one.model_id: one for one in self._models.list_usable()}
        names = name_models(list(usable.values()), self._catalogue.list_versions())
        return [describe_model(name, usable[model_id]) for name, model_id in names.items()]

    def find(self, name: str) -> ModelEntry:
        """Return the model called `name`, `name@alias` or `name/version`, or with this id. Raises ApiError 404 if there is none."""
        try:
            return self._models.find(name)
        except UserError as error:
            if error.code not in ("model_gone", "no_model", "remote_gone"):
                raise
        entries = self._models.list_models()
        model_id = name_models(entries, self._catalogue.list_versions()).get(name)
        found = next((entry for entry in entries if entry.model_id == model_id), None)
        if found is None:
            raise no_such_model(name)
        return found


def no_such_model(name: str) -> ApiError:
    """Return the error for an unknown model name."""
    sentence = f"There is no model {name[:200]}. GET /v1/models lists the available models."
    return ApiError(404, sentence, "model", "model_not_found")


def name_models(entries: Sequence[ModelEntry], versions: Mapping[str, Iterable[RegisteredVersion]]) -> dict[str, str]:
    """Return model ids by name. `entries` must be sorted newest first; `versions`, by model id, oldest first.

    A registered name stands for its latest version, the name of a logged model for the newest one with that name.
    """
    names = dict[str, str]()
    last = dict[str, int]()
    for entry in entries:
        for one in versions.get(entry.model_id, ()):
            if int(one.version) > last.get(one.name, 0):
                last[one.name] = int(one.version)
                names[one.name] = entry.model_id
            names |= {f"{one.name}@{alias}": entry.model_id for alias in one.aliases}
            names[f"{one.name}/{one.version}"] = entry.model_id
    for entry in entries:
        if not entry.is_unlogged:  # the name of a remote model could be that of a version
            names.setdefault(entry.name, entry.model_id)
        names.setdefault(entry.model_id, entry.model_id)
    return names


def describe_model(name: str, entry: ModelEntry) -> dict[str, Any]:
    """Describe a model in OpenAI's format, with its id as `root`, its context length in tokens, and its supported parameters."""
    return {
        "id": name,
        "object": "model",
        "created": int(entry.created.timestamp()),
        "owned_by": entry.host or "mlflow",
        "root": entry.model_id,
        "context_length": entry.context_length,
        "supported_parameters": list(entry.supported_params),
    }
