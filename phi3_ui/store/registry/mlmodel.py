"""Reading a model's MLmodel file, without its weights or code, and without MLflow's process-wide tracking URI."""

import os
import tempfile
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import yaml  # type: ignore[import-untyped]
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from phi3_ui.store.registry.sources import StoredModel

_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_mlmodel(tracking_uri: str, model: StoredModel) -> Model:
    """The parsed MLmodel file of a model.

    Raises:
        MlflowException: The store does not have the file, or it is not valid YAML.
        OSError: A local file cannot be read.
    """
    if file := find_local_mlmodel(model):
        return parse_mlmodel(file)
    with tempfile.TemporaryDirectory() as folder:
        repository = get_artifact_repository(model.artifact_uri, tracking_uri)
        return parse_mlmodel(Path(repository.download_artifacts("MLmodel", folder)))


def parse_mlmodel(file: Path) -> Model:
    """As `Model.load`, which uses MLflow's slow YAML loader. Raises MlflowException and OSError as `load_mlmodel`."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _SafeLoader)  # noqa: S506 - it is a safe loader
    except yaml.YAMLError as error:
        raise MlflowException(f"{file} is not a valid MLmodel file: {error}") from error
    return Model.from_dict(content)


def find_local_mlmodel(model: StoredModel) -> Path | None:
    """The path of the model's MLmodel file if its artifacts are on this machine; None if the store serves them."""
    location = urlparse(model.artifact_uri)
    if location.scheme not in ("", "file") or location.netloc or location.query:
        return None
    path = url2pathname(location.path) if location.scheme else model.artifact_uri
    return Path(path) / "MLmodel" if os.path.isabs(path) else None
