"""Resolves the names of a model: its id, `name@alias`, `name/version`, each optionally after `models:/`, or `runs:/run/path`."""

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from models.model_ids import is_run_model
from phi3_ui.store.errors import raise_unless_missing
from phi3_ui.store.query import paginate, quote
from phi3_ui.store.registry.records import find_logged_model_id, find_version


def resolve_model_id(client: MlflowClient, name: str) -> str | None:
    """Return the id of the model with this name; None if the registry has no such alias or version.

    An id that is not a version is returned unchanged, without a lookup.
    """
    name = name.removeprefix("models:/")
    if is_run_model(name):
        return name
    registered_name, at, alias = name.rpartition("@")
    if at:
        return _resolve_alias(client, registered_name, alias)
    registered_name, slash, version = name.rpartition("/")
    if not slash:
        return name
    if version.isdecimal():
        return _resolve_version(client, registered_name, version)
    return _resolve_stage(client, registered_name, version)


def _resolve_alias(client: MlflowClient, name: str, alias: str) -> str | None:
    try:
        version = client.get_registered_model(name).aliases.get(alias)
    except MlflowException as error:
        raise_unless_missing(error)
        return None
    return None if version is None else _resolve_version(client, name, str(version))


def _resolve_version(client: MlflowClient, name: str, version: str) -> str | None:
    found = find_version(client, name, version)
    return find_model_id(found) if found else None


def _resolve_stage(client: MlflowClient, name: str, stage: str) -> str | None:
    """Return the newest version in a stage, such as Production, or of all versions if `stage` is "latest"."""
    try:
        query = f"name = {quote(name)}"
    except ValueError:
        return None  # the name cannot be quoted in a filter, and no registered model can have it
    found = [
        version
        for version in paginate(client.search_model_versions, filter_string=query)
        if stage == "latest" or str(version.current_stage).lower() == stage.lower()
    ]
    return find_model_id(max(found, key=lambda version: int(version.version))) if found else None


def find_model_id(version: ModelVersion) -> str:
    """Return the id of the model that a registered version refers to."""
    return find_logged_model_id(version) or f"{version.name}/{version.version}"
