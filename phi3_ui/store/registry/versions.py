"""The model registry: lists and changes versions and aliases, and deletes models."""

import contextlib
import io

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

import models.registry
from phi3_ui.errors import UserError
from phi3_ui.store.errors import is_missing, translate_store_errors
from phi3_ui.store.query import paginate
from phi3_ui.store.registry.cards import RegisteredVersion
from phi3_ui.store.registry.names import find_model_id
from phi3_ui.store.registry.store_models import StoreModels


def list_versions(client: MlflowClient) -> dict[str, tuple[RegisteredVersion, ...]]:
    """Return every registered version with its aliases, by the id of its model, oldest first."""
    aliases: dict[tuple[str, str], list[str]] = {}
    for registered in paginate(client.search_registered_models):
        for alias, version in sorted(registered.aliases.items()):
            aliases.setdefault((registered.name, str(version)), []).append(alias)
    found: dict[str, tuple[RegisteredVersion, ...]] = {}
    for version in sorted(paginate(client.search_model_versions), key=lambda one: (one.name, int(one.version))):
        pointing = tuple(aliases.get((version.name, str(version.version)), ()))
        model_id, one = find_model_id(version), RegisteredVersion(version.name, str(version.version), pointing)
        found[model_id] = (*found.get(model_id, ()), one)
    return found


class Registry:
    """Writes to one tracking store. Methods raise UserError: store_read_only or store_unreachable if the store refuses."""

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        self._models = StoreModels(tracking_uri)

    def register_model(self, model_id: str, name: str | None = None) -> RegisteredVersion:
        """Register a model as a version of `name` (default: its own name), unless it already is one.

        See models/registry.py for the tags that are recorded, and the alias that the version gets.

        Raises:
            UserError: model_gone, bad_model_name.
        """
        with translate_store_errors(self.tracking_uri):
            model = self._models.find(model_id)
            try:
                with contextlib.redirect_stderr(io.StringIO()):  # MLflow prints messages there
                    registered = models.registry.register(self.tracking_uri, model_id, name)
            except MlflowException as error:
                if error.error_code == "INVALID_PARAMETER_VALUE":
                    raise UserError("bad_model_name", name=name or model.name) from error
                raise
            return RegisteredVersion(
                registered.name, registered.version, self._list_aliases(registered.name, registered.version)
            )

    def promote(self, name: str, version: str, alias: str) -> None:
        """Make `alias` of `name` point to `version`. Raises UserError: version_gone, bad_alias."""
        with translate_store_errors(self.tracking_uri):
            try:
                self._client.set_registered_model_alias(name, alias, version)
            except MlflowException as error:
                if is_missing(error):
                    raise UserError("version_gone", name=name, version=version) from error
                if error.error_code == "INVALID_PARAMETER_VALUE":
                    raise UserError("bad_alias", alias=alias) from error
                raise

    def get_alias_version(self, name: str, alias: str) -> str | None:
        """Return the version that `alias` of `name` points to; None if either does not exist."""
        with translate_store_errors(self.tracking_uri):
            return self._get_aliases(name).get(alias)

    def remove_alias(self, name: str, alias: str) -> None:
        """Remove `alias` of `name`, if it exists. Raises UserError: version_gone if there is no such name."""
        with translate_store_errors(self.tracking_uri):
            try:
                self._client.delete_registered_model_alias(name, alias)
            except MlflowException as error:
                if is_missing(error):
                    raise UserError("version_gone", name=name, version=alias) from error
                raise

    def delete_model(self, model_id: str) -> list[RegisteredVersion]:
        """Delete a model with its registered versions and its files, and return the deleted versions.

        The model's record is deleted last, so that an interrupted deletion can be retried.

        Raises:
            UserError: model_gone.
        """
        with translate_store_errors(self.tracking_uri):
            model = self._models.find(model_id)
            removed = [version for version in self._models.list_versions(model) if self._delete_version(version)]
            get_artifact_repository(model.artifact_uri, self.tracking_uri).delete_artifacts()
            self._models.delete_record(model)
            return removed

    @property
    def _client(self) -> MlflowClient:
        return self._models.client

    def _get_aliases(self, name: str) -> dict[str, str]:
        try:
            found = self._client.get_registered_model(name).aliases
        except MlflowException as error:
            if is_missing(error):
                return {}
            raise
        return {alias: str(version) for alias, version in found.items()}

    def _list_aliases(self, name: str, version: str) -> tuple[str, ...]:
        return tuple(sorted(alias for alias, at in self._get_aliases(name).items() if at == version))

    def _delete_version(self, version: RegisteredVersion) -> bool:
        """Delete a version; return False if it does not exist, since the model's own tag still lists deleted ones."""
        try:
            self._client.delete_model_version(version.name, version.version)
        except MlflowException as error:
            if is_missing(error):
                return False
            raise
        return True
