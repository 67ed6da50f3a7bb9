"""All models of a store, in either kind of model records."""

import threading
from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.entities import Experiment

from models.store_features import find_features
from phi3_ui.errors import UserError
from phi3_ui.store.registry.cards import RegisteredVersion
from phi3_ui.store.registry.names import resolve_model_id
from phi3_ui.store.registry.records import (
    LoggedModels,
    ModelRecords,
    RunArtifacts,
    StoredModel,
    list_deleted_experiments,
)


class StoreModels:
    """Reads and changes the models of one tracking store. Thread-safe. Methods raise MlflowException if the store fails."""

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        self._lock = threading.Lock()  # guards the attributes below
        self._client: MlflowClient | None = None
        self._records: tuple[ModelRecords, ...] | None = None

    @property
    def client(self) -> MlflowClient:
        """A client of the store."""
        with self._lock:
            if self._client is None:
                self._client = MlflowClient(self.tracking_uri)
            return self._client

    def list_models(self) -> list[StoredModel]:
        """Return the completely logged models, newest first."""
        found = [model for records in self._open_records() for model in records.list_models() if model.is_complete]
        return sorted(found, key=lambda model: model.created, reverse=True)

    def list_deleted(self) -> Iterator[tuple[Experiment, StoredModel]]:
        """Yield the completely logged models in deleted experiments, each with its experiment."""
        deleted = {experiment.experiment_id: experiment for experiment in list_deleted_experiments(self.client)}
        for records in self._open_records():
            for experiment_id, model in records.list_deleted(list(deleted)):
                if model.is_complete:
                    yield deleted[experiment_id], model

    def find(self, name: str) -> StoredModel:
        """Return the model with this name, in any form that `resolve_model_id` accepts. Raises UserError("model_gone")."""
        model_id = resolve_model_id(self.client, name)
        found = [records for records in self._open_records() if model_id and records.matches(model_id)]
        model = found[0].find(model_id) if model_id and found else None
        if model is None:
            raise UserError("model_gone")
        return model

    def list_versions(self, model: StoredModel) -> list[RegisteredVersion]:
        """Return the registered versions of a model with their aliases, by name, oldest first."""
        versions = []
        for name, number in self._find_records(model).list_versions(model):
            aliases = self.client.get_registered_model(name).aliases.items()
            pointing = tuple(alias for alias, at in sorted(aliases) if str(at) == str(number))
            versions.append(RegisteredVersion(name, str(number), pointing))
        return versions

    def set_tag(self, model: StoredModel, key: str, value: str) -> None:
        """Set a tag of a model."""
        self._find_records(model).set_tag(model, key, value)

    def delete_record(self, model: StoredModel) -> None:
        """Delete the record of a model whose files and versions are deleted."""
        self._find_records(model).delete_record(model)

    def _find_records(self, model: StoredModel) -> ModelRecords:
        return next(records for records in self._open_records() if records.matches(model.model_id))

    def _open_records(self) -> tuple[ModelRecords, ...]:
        client, features = self.client, find_features(self.tracking_uri)
        with self._lock:
            if self._records is None:
                runs = RunArtifacts(client)
                self._records = (LoggedModels(client), runs) if features.logged_models else (runs,)
            return self._records
