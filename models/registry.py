"""Register logged models as versions of the registered model of their name, with descriptions, tags and aliases."""

import threading
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking._tracking_service.utils import _use_tracking_uri

CHAMPION = "champion"
CHALLENGER = "challenger"

_VERSION_TAGS = ("contract", "preset", "precision", "device", "source", "commit", "license")

_tracking_uri_lock = threading.Lock()  # the tracking URI is the process's, and an app may have several stores


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    version: str


def register(tracking_uri: str, model_id: str, name: str | None = None) -> Version:
    """Register a logged model under `name` (default: its own) unless it is; complete an interrupted registration.

    The first version of a name becomes its champion, each later one its challenger. Descriptions and tags written by
    users are kept. MlflowException if the store has no registry or denies it.
    """
    client = MlflowClient(tracking_uri)
    uri = f"models:/{model_id}"
    # MLflow looks a models:/ URI up in the process's tracking store, whatever the client's is (as of mlflow 3.17.2).
    with _tracking_uri_lock, _use_tracking_uri(tracking_uri):
        return _register(client, uri, name or client.get_logged_model(model_id).name)


def _register(client: MlflowClient, uri: str, name: str) -> Version:
    import mlflow

    metadata: dict[str, Any] = mlflow.models.get_model_info(uri).metadata or {}
    # The SQL store returns a version's source, but not the id of its model.
    version = next((one for one in versions(client, name) if one.source == uri), None)
    if version is None:
        tags = {key: str(metadata[key]) for key in _VERSION_TAGS if metadata.get(key)}
        version = mlflow.register_model(uri, name, tags=tags)
    _describe(client, name, metadata)
    _give_alias(client, version)
    return Version(name, str(version.version))


def versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """All versions of a registered model, oldest first; none if there is no such model."""
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


def _give_alias(client: MlflowClient, version: ModelVersion) -> None:
    aliases = {alias: str(number) for alias, number in client.get_registered_model(version.name).aliases.items()}
    number, all_ = str(version.version), [str(one.version) for one in versions(client, version.name)]
    if number in aliases.values():
        return
    if number == all_[0] and CHAMPION not in aliases:
        client.set_registered_model_alias(version.name, CHAMPION, number)
    elif number == all_[-1]:
        client.set_registered_model_alias(version.name, CHALLENGER, number)
