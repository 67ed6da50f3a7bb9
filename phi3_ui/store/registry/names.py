"""What a person may call a model: a logged model's id, `name@alias`, `name/version`, or any of these after `models:/`."""

import json
import re
from collections.abc import Iterator
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from phi3_ui.store.errors import is_missing
from phi3_ui.store.registry.cards import RegisteredAlias, RegisteredVersion


def resolve_model_id(client: MlflowClient, key: str) -> str | None:
    """The id of the logged model that `key` names; None if the registry has no such alias or version."""
    key = key.removeprefix("models:/")
    name, at, alias = key.rpartition("@")
    if at:
        return _behind_alias(client, name, alias)
    name, slash, version = key.rpartition("/")
    if not slash:
        return key
    if version == "latest":
        return _behind_latest(client, name)
    return _behind_version(client, name, version) if version.isdecimal() else None


def list_aliases(client: MlflowClient) -> Iterator[RegisteredAlias]:
    """Every alias of the registry that points at a logged model, by name."""
    for registered in pages(client.search_registered_models):
        for alias, version in sorted(registered.aliases.items()):
            if model_id := _behind_version(client, registered.name, str(version)):
                yield RegisteredAlias(registered.name, alias, str(version), model_id)


def list_versions(client: MlflowClient, model_id: str) -> Iterator[RegisteredVersion]:
    """The registered versions that were made of a logged model, oldest first."""
    # The registry cannot be searched by model id; the model's own tag names the versions made of it: a server writes
    # it twice, and keeps those that were deleted since.
    tag = client.get_logged_model(model_id).tags.get("mlflow.modelVersions", "[]")
    made = {(one["name"], int(one["version"])) for one in json.loads(tag)}
    for name, number in sorted(made):
        version = str(number)
        if _behind_version(client, name, version) == model_id:
            aliases = client.get_registered_model(name).aliases
            yield RegisteredVersion(name, version, tuple(a for a, at in sorted(aliases.items()) if str(at) == version))


def pages(search: Any, **arguments: Any) -> Iterator[Any]:
    """All that a search finds, page after page."""
    token = None
    while True:
        page = search(**arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _behind_alias(client: MlflowClient, name: str, alias: str) -> str | None:
    try:
        version = client.get_registered_model(name).aliases.get(alias)
    except MlflowException as error:
        _raise_unless_missing(error)
        return None
    return None if version is None else _behind_version(client, name, str(version))


def _behind_version(client: MlflowClient, name: str, version: str) -> str | None:
    try:
        found = client.get_model_version(name, version)
    except MlflowException as error:
        _raise_unless_missing(error)
        return None
    # SQLite leaves model_id empty, and has it in the source.
    of_source = re.fullmatch(r"models:/(m-[\w-]+)", found.source or "")
    return found.model_id or (of_source[1] if of_source else None)


def _behind_latest(client: MlflowClient, name: str) -> str | None:
    quoted = name.replace("'", "''")
    versions = [int(found.version) for found in pages(client.search_model_versions, filter_string=f"name='{quoted}'")]
    return _behind_version(client, name, str(max(versions))) if versions else None


def _raise_unless_missing(error: MlflowException) -> None:
    # A name that no registered model may have is refused as an invalid value.
    if not is_missing(error) and error.error_code != "INVALID_PARAMETER_VALUE":
        raise error
