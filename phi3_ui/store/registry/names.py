"""The names of a model in the registry: a logged model's id, `name@alias` or `name/version`, each also after `models:/`."""

import json
import re
from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from phi3_ui.store.errors import is_missing
from phi3_ui.store.query import paginate, quote
from phi3_ui.store.registry.cards import RegisteredAlias, RegisteredVersion


def resolve_model_id(client: MlflowClient, name: str) -> str | None:
    """The id of the logged model with this name; None if the registry has no such alias or version.

    A logged model's id is returned as it is, without looking it up.
    """
    name = name.removeprefix("models:/")
    registered_name, at, alias = name.rpartition("@")
    if at:
        return _resolve_alias(client, registered_name, alias)
    registered_name, slash, version = name.rpartition("/")
    if not slash:
        return name
    if version == "latest":
        return _resolve_latest(client, registered_name)
    return _resolve_version(client, registered_name, version) if version.isdecimal() else None


def list_aliases(client: MlflowClient) -> Iterator[RegisteredAlias]:
    """Every alias in the registry that points at a logged model, by name."""
    for registered in paginate(client.search_registered_models):
        for alias, version in sorted(registered.aliases.items()):
            if model_id := _resolve_version(client, registered.name, str(version)):
                yield RegisteredAlias(registered.name, alias, str(version), model_id)


def list_versions(client: MlflowClient, model_id: str) -> Iterator[RegisteredVersion]:
    """The registered versions of a logged model, by name, oldest first."""
    # The registry cannot be searched by model id, so take the versions from the model's own tag. A server writes each
    # twice, and the tag keeps versions that were deleted since.
    tag = client.get_logged_model(model_id).tags.get("mlflow.modelVersions", "[]")
    tagged = {(one["name"], int(one["version"])) for one in json.loads(tag)}
    for name, number in sorted(tagged):
        version = str(number)
        if _resolve_version(client, name, version) == model_id:
            aliases = client.get_registered_model(name).aliases
            yield RegisteredVersion(name, version, tuple(a for a, at in sorted(aliases.items()) if str(at) == version))


def _resolve_alias(client: MlflowClient, name: str, alias: str) -> str | None:
    try:
        version = client.get_registered_model(name).aliases.get(alias)
    except MlflowException as error:
        _raise_unless_missing(error)
        return None
    return None if version is None else _resolve_version(client, name, str(version))


def _resolve_version(client: MlflowClient, name: str, version: str) -> str | None:
    try:
        found = client.get_model_version(name, version)
    except MlflowException as error:
        _raise_unless_missing(error)
        return None
    # SQLite leaves model_id empty; the source contains it.
    source = re.fullmatch(r"models:/(m-[\w-]+)", found.source or "")
    return found.model_id or (source[1] if source else None)


def _resolve_latest(client: MlflowClient, name: str) -> str | None:
    try:
        query = f"name = {quote(name)}"
    except ValueError:
        return None  # no filter can hold the name, and no registered model of ours has it
    versions = [int(found.version) for found in paginate(client.search_model_versions, filter_string=query)]
    return _resolve_version(client, name, str(max(versions))) if versions else None


def _raise_unless_missing(error: MlflowException) -> None:
    # MLflow reports a name that no registered model can have as an invalid value.
    if not is_missing(error) and error.error_code != "INVALID_PARAMETER_VALUE":
        raise error
