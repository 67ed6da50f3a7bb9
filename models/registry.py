"""Register models as versions of the registered model with their name, with descriptions, tags and aliases."""

import threading
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking._tracking_service.utils import _use_tracking_uri

from models.model_ids import is_run_model, split_run_model_id
from models.run_models import run_model_name

CHAMPION = "champion"
CHALLENGER = "challenger"

_VERSION_TAGS = ("contract", "preset", "precision", "device", "source", "commit", "license")

_tracking_uri_lock = threading.Lock()  # the tracking URI is global to the process, and an app may use several stores


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    version: str


def register(tracking_uri: str, model_id: str, name: str | None = None) -> Version:
    """Register a model under `name` (default: its own name) unless it is registered; complete an interrupted registration.

    `model_id` is the id of a logged model or run artifact, or the name/version of such an artifact. The first version of a name
    becomes its champion, each later one its challenger. Descriptions and tags written by users are kept. Raises MlflowException
    if the store has no registry or denies access to it.
    """
    client = MlflowClient(tracking_uri)
    # MLflow resolves a models:/ URI in the process's tracking store, even if the client has another (as of mlflow 3.17.2).
    with _tracking_uri_lock, _use_tracking_uri(tracking_uri):
        if is_run_model(model_id):
            run_id, path = split_run_model_id(model_id)
            run = client.get_run(run_id)
            artifact = _Artifact(f"{run.info.artifact_uri.rstrip('/')}/{path}", run_id)
            return _register(client, model_id, name or run_model_name(run, path), artifact)
        own_name, slash, number = model_id.rpartition("/")
        if slash:
            version = client.get_model_version(own_name, number)
            artifact = _Artifact(str(version.source), version.run_id or None)
            return _register(client, f"models:/{model_id}", name or own_name, artifact)
        return _register(client, f"models:/{model_id}", name or client.get_logged_model(model_id).name)


@dataclass(frozen=True)
class _Artifact:
    """A run artifact as recorded in the registry."""

    source: str
    run_id: str | None


def _register(client: MlflowClient, uri: str, name: str, artifact: _Artifact | None = None) -> Version:
    """Register the model at `uri`, which is a logged model unless `artifact` is given."""
    import mlflow

    metadata: dict[str, Any] = mlflow.models.get_model_info(uri).metadata or {}
    source = artifact.source if artifact else uri
    # The SQL store returns the source of a version, but not the id of its model.
    version = next((one for one in list_versions(client, name) if one.source == source), None)
    if version is None:
        tags = {key: str(metadata[key]) for key in _VERSION_TAGS if metadata.get(key)}
        if artifact:
            version = _create_version(client, artifact, name, tags)
        else:
            version = mlflow.register_model(uri, name, tags=tags)
    _describe(client, name, metadata)
    _assign_alias(client, version)
    return Version(name, str(version.version))


def _create_version(client: MlflowClient, artifact: _Artifact, name: str, tags: dict[str, str]) -> ModelVersion:
    """Register a run artifact. `mlflow.register_model` would query the store for the run's logged models."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(name, artifact.source, artifact.run_id, tags=tags)


def list_versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Return all versions of a registered model, oldest first; an empty list if there is no such model."""
    quote = '"' if "'" in name else "'"
    return sorted(client.search_model_versions(f"name = {quote}{name}{quote}"), key=lambda one: int(one.version))


def _describe(client: MlflowClient, name: str, metadata: dict[str, Any]) -> None:
    model = client.get_registered_model(name)
    source, license_ = metadata.get("source", ""), metadata.get("license", "")
    parts = [
        f"**{metadata['title']}**" if metadata.get("title") else "",
        metadata.get("summary", ""),
        f"Source: {source}" if source else "",
        f"Licence: {license_}" if license_ else "",
    ]
    if not model.description and any(parts):
        client.update_registered_model(name, description="\n\n".join(filter(None, parts)))
    tags = {"license": license_, "source": source, "card_tags": ", ".join(metadata.get("card_tags", []))}
    for key, value in tags.items():
        if value and key not in model.tags:
            client.set_registered_model_tag(name, key, value)


def _assign_alias(client: MlflowClient, version: ModelVersion) -> None:
    aliases = {alias: str(number) for alias, number in client.get_registered_model(version.name).aliases.items()}
    number, all_ = str(version.version), [str(one.version) for one in list_versions(client, version.name)]
    if number in aliases.values():
        return
    if number == all_[0] and CHAMPION not in aliases:
        client.set_registered_model_alias(version.name, CHAMPION, number)
    elif number == all_[-1]:
        client.set_registered_model_alias(version.name, CHALLENGER, number)
