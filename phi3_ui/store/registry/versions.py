"""What changes the model registry: versions of logged models, their aliases, and removal of both."""

import contextlib
import io

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

import models.registry
from phi3_ui.errors import UserError
from phi3_ui.store.errors import is_missing, translate_store_errors
from phi3_ui.store.registry.cards import RegisteredVersion
from phi3_ui.store.registry.names import list_versions


class Registry:
    """Writes to one tracking store. All methods raise UserError, with store_read_only or store_unreachable where it refuses."""

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri

    def register_model(self, model_id: str, name: str | None = None) -> RegisteredVersion:
        """Make the logged model a version of `name` (default: its own name), or find the version that it is already.

        models/registry.py says what else is recorded, and which alias it gets. UserError: model_gone, bad_model_name.
        """
        with translate_store_errors(self.tracking_uri):
            model = self._logged(model_id)
            try:
                with contextlib.redirect_stderr(io.StringIO()):  # what MLflow prints of it
                    made = models.registry.register(self.tracking_uri, model_id, name)
            except MlflowException as error:
                if error.error_code == "INVALID_PARAMETER_VALUE":
                    raise UserError("bad_model_name", name=name or model.name) from error
                raise
            return RegisteredVersion(made.name, made.version, self._pointing_at(made.name, made.version))

    def promote(self, name: str, version: str, alias: str) -> None:
        """Point `alias` of `name` at `version`, from wherever it pointed. UserError: version_gone, bad_alias."""
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
        """The version that `alias` of `name` points at, if there are both."""
        with translate_store_errors(self.tracking_uri):
            return self._aliases(name).get(alias)

    def remove_alias(self, name: str, alias: str) -> None:
        """Make `alias` of `name` point at nothing; so it may already. UserError: version_gone if there is no such name."""
        with translate_store_errors(self.tracking_uri):
            try:
                self._client.delete_registered_model_alias(name, alias)
            except MlflowException as error:
                if is_missing(error):
                    raise UserError("version_gone", name=name, version=alias) from error
                raise

    def delete_model(self, model_id: str) -> list[RegisteredVersion]:
        """Delete a logged model with its registered versions and its files; the versions that were deleted. UserError: model_gone.

        The record goes last: whatever ends this early, the same call goes on.
        """
        with translate_store_errors(self.tracking_uri):
            model = self._logged(model_id)
            removed = [
                version for version in dict.fromkeys(list_versions(self._client, model_id)) if self._delete(version)
            ]
            get_artifact_repository(model.artifact_location, self.tracking_uri).delete_artifacts()
            self._client.delete_logged_model(model_id)
            return removed

    @property
    def _client(self) -> MlflowClient:
        # A models:/ URI is resolved by the process's own tracking URI.
        mlflow.set_tracking_uri(self.tracking_uri)
        return MlflowClient(self.tracking_uri)

    def _logged(self, model_id: str) -> LoggedModel:
        try:
            return self._client.get_logged_model(model_id)
        except MlflowException as error:
            if is_missing(error):
                raise UserError("model_gone") from error
            raise

    def _aliases(self, name: str) -> dict[str, str]:
        try:
            found = self._client.get_registered_model(name).aliases
        except MlflowException as error:
            if is_missing(error):
                return {}
            raise
        return {alias: str(version) for alias, version in found.items()}

    def _pointing_at(self, name: str, version: str) -> tuple[str, ...]:
        return tuple(sorted(alias for alias, at in self._aliases(name).items() if at == version))

    def _delete(self, version: RegisteredVersion) -> bool:
        """False if somebody did before: the model's own tag still names it."""
        try:
            self._client.delete_model_version(version.name, version.version)
        except MlflowException as error:
            if is_missing(error):
                return False
            raise
        return True
