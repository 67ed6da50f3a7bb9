"""Reads a model's MLmodel file, without its weights or code, and without MLflow's process-wide tracking URI.

The file may be damaged or malicious, so its size is limited, and its parts are checked to have the types that the app relies on.
"""

import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from phi3_ui.errors import UserError
from phi3_ui.store.errors import is_missing
from phi3_ui.store.registry.mlmodel_yaml import MAX_BYTES, parse_yaml
from phi3_ui.store.registry.records import StoredModel

NO_MLMODEL = "there is no MLmodel file"


def load_mlmodel(tracking_uri: str, model: StoredModel) -> Model:
    """Return the parsed MLmodel file of a model.

    Raises:
        UserError: model_unreadable if there is no such file, or if it is damaged.
        MlflowException: The store does not respond.
    """
    if file := find_local_mlmodel(model):
        return parse_mlmodel(file, model.name)
    with tempfile.TemporaryDirectory() as folder:
        repository = get_artifact_repository(model.artifact_uri, tracking_uri)
        try:
            file = Path(repository.download_artifacts("MLmodel", folder))
        except MlflowException as error:
            if is_missing(error) or isinstance(error.__cause__, FileNotFoundError):
                raise _create_unreadable_error(model.name, NO_MLMODEL) from error
            raise
        return parse_mlmodel(file, model.name)


def parse_mlmodel(file: Path, name: str) -> Model:
    """Parse the MLmodel file of the model called `name`. Raises UserError("model_unreadable")."""
    try:
        content = read_mlmodel(file)
        return Model.from_dict(content)
    except ValueError as error:
        raise _create_unreadable_error(name, f"MLmodel is damaged: {error}") from error
    except FileNotFoundError as error:
        raise _create_unreadable_error(name, NO_MLMODEL) from error
    except OSError as error:
        raise _create_unreadable_error(name, f"MLmodel: {error.strerror}") from error
    except Exception as error:  # MLflow raises anything for an invalid signature, or for unknown keys
        raise _create_unreadable_error(name, f"MLmodel is damaged: {type(error).__name__}") from error


def read_mlmodel(file: Path) -> dict[str, Any]:
    """Read the content of an MLmodel file. Raises ValueError, with the reason, or OSError."""
    # A pipe in its place would block, and a growing file would fill the memory.
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not a file")
    with file.open("rb") as opened:
        raw = opened.read(MAX_BYTES + 1)
    content = parse_yaml(raw.decode("utf-8"))
    _check_shapes(content)
    return dict(content)


def _check_shapes(content: Any) -> None:
    """Raise ValueError unless the parts that the app reads have the types that MLflow writes."""
    if not _is_record(content):
        raise ValueError("it is not a mapping")
    flavors = content.get("flavors")
    if not _is_record(flavors) or not all(map(_is_record, flavors.values())):
        raise ValueError("flavors is not a mapping of mappings")
    if not isinstance(content.get("metadata") or {}, dict):
        raise ValueError("metadata is not a mapping")
    for flavor in flavors.values():
        artifacts = flavor.get("artifacts") or {}
        if not _is_record(artifacts) or not all(
            _is_record(artifact) and isinstance(artifact.get("path"), str) for artifact in artifacts.values()
        ):
            raise ValueError("artifacts is not a mapping of paths")
        environment = flavor.get("env")
        if isinstance(environment, dict) and not all(isinstance(path, str) for path in environment.values()):
            raise ValueError("env is not a mapping of paths")
        if not isinstance(flavor.get("config") or {}, dict):
            raise ValueError("config is not a mapping")
        if not isinstance(flavor.get("components") or [], list):
            raise ValueError("components is not a list")
        if not isinstance(flavor.get("loader_module", ""), str):
            raise ValueError("loader_module is not a string")


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _create_unreadable_error(name: str, detail: str) -> UserError:
    return UserError("model_unreadable", model=name, detail=" ".join(detail.split())[:200].rstrip("."))


def find_local_mlmodel(model: StoredModel) -> Path | None:
    """Return the path of the model's MLmodel file if its artifacts are on this machine; None if the store serves them."""
    location = urlparse(model.artifact_uri)
    if location.scheme not in ("", "file") or location.netloc or location.query:
        return None
    path = url2pathname(location.path) if location.scheme else model.artifact_uri
    return Path(path) / "MLmodel" if os.path.isabs(path) else None
