"""The two kinds of model records in a store: logged models, and artifacts of runs, which may be registered.

MLflow 3 has logged models. MLflow 2 servers, Azure ML, and stores that were migrated or filled by mlflow-export-import store
models as artifacts of runs.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from mlflow import MlflowClient
from mlflow.entities import Experiment, LoggedModel, LoggedModelStatus, Run, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from models.model_ids import is_logged_model, is_run_model, run_model_id, split_run_model_id
from models.run_models import HISTORY_TAG, list_run_models, run_model_name, unlist_run_model
from phi3_ui.store.errors import raise_unless_missing
from phi3_ui.store.query import paginate

_PROMPT_TAG = "mlflow.prompt.is_prompt"  # prompts are in the registry too, without files


@dataclass(frozen=True)
class StoredModel:
    """A model in the store, chat-capable or not."""

    model_id: str
    name: str
    artifact_uri: str
    """The folder of its files."""
    created: int
    """Milliseconds since 1970, UTC."""
    run_id: str | None
    """The run that logged it."""
    tags: Mapping[str, str]
    experiment_id: str = ""
    """The experiment of a logged model; empty for a run's artifact, which has no page in MLflow's UI."""
    is_complete: bool = True
    """Whether its logging has finished."""

    @property
    def uri(self) -> str:
        """The URI for `mlflow.pyfunc.load_model`."""
        return self.model_id if is_run_model(self.model_id) else f"models:/{self.model_id}"


class ModelRecords(Protocol):
    """One kind of model records of a store. Methods raise MlflowException if the store fails."""

    def matches(self, model_id: str) -> bool:
        """Return whether the form of an id is that of this kind."""

    def list_models(self) -> Iterator[StoredModel]:
        """Yield all models, in no particular order."""

    def list_deleted(self, experiment_ids: list[str]) -> Iterator[tuple[str, StoredModel]]:
        """Yield the models in deleted experiments, each with the id of its experiment."""

    def find(self, model_id: str) -> StoredModel | None:
        """Return the model with this id; None if there is none."""

    def list_versions(self, model: StoredModel) -> list[tuple[str, int]]:
        """Return name and number of each registered version, sorted; the one that is the model's own id, if any, comes last."""

    def set_tag(self, model: StoredModel, key: str, value: str) -> None:
        """Set a tag of a model."""

    def delete_record(self, model: StoredModel) -> None:
        """Delete the record of a model whose files and versions are deleted."""


class LoggedModels:
    """The logged models of MLflow 3."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def matches(self, model_id: str) -> bool:
        """See ModelRecords."""
        return is_logged_model(model_id)

    def list_models(self) -> Iterator[StoredModel]:
        """See ModelRecords."""
        for _, model in self._search(list_experiment_ids(self._client)):
            yield model

    def list_deleted(self, experiment_ids: list[str]) -> Iterator[tuple[str, StoredModel]]:
        """See ModelRecords."""
        return self._search(experiment_ids)

    def _search(self, experiment_ids: list[str]) -> Iterator[tuple[str, StoredModel]]:
        if not experiment_ids:
            return
        for model in paginate(self._client.search_logged_models, experiment_ids=experiment_ids):
            yield model.experiment_id, from_logged_model(model)

    def find(self, model_id: str) -> StoredModel | None:
        """See ModelRecords."""
        model = _find_logged_model(self._client, model_id)
        return from_logged_model(model) if model else None

    def list_versions(self, model: StoredModel) -> list[tuple[str, int]]:
        """See ModelRecords."""
        # The registry cannot be searched by model id, so take the versions from the model's own tag. A server writes each
        # version twice, and the tag keeps deleted versions.
        tag = self._client.get_logged_model(model.model_id).tags.get("mlflow.modelVersions", "[]")
        tagged = sorted({(one["name"], int(one["version"])) for one in json.loads(tag)})
        versions = [(find_version(self._client, name, str(number)), (name, number)) for name, number in tagged]
        return [key for version, key in versions if version and find_logged_model_id(version) == model.model_id]

    def set_tag(self, model: StoredModel, key: str, value: str) -> None:
        """See ModelRecords."""
        self._client.set_logged_model_tags(model.model_id, {key: value})

    def delete_record(self, model: StoredModel) -> None:
        """See ModelRecords."""
        self._client.delete_logged_model(model.model_id)


class RunArtifacts:
    """Models among the artifacts of runs: each registered version, and those that are not registered."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def matches(self, model_id: str) -> bool:
        """See ModelRecords."""
        return not is_logged_model(model_id)

    def list_models(self) -> Iterator[StoredModel]:
        """See ModelRecords."""
        registered = set[str]()
        for version in paginate(self._client.search_model_versions):
            if model := self._from_version(version):
                registered.add(model.artifact_uri)
                yield model
        for _, model in self._search(list_experiment_ids(self._client), ViewType.ACTIVE_ONLY):
            if model.artifact_uri not in registered:
                yield model

    def list_deleted(self, experiment_ids: list[str]) -> Iterator[tuple[str, StoredModel]]:
        """See ModelRecords."""
        return self._search(experiment_ids, ViewType.ALL)

    def _search(self, experiment_ids: list[str], view: int) -> Iterator[tuple[str, StoredModel]]:
        if not experiment_ids:
            return
        arguments = {"filter_string": f"tags.`{HISTORY_TAG}` != ''", "run_view_type": view}
        for run in paginate(self._client.search_runs, experiment_ids=experiment_ids, **arguments):
            for path in list_run_models(run):
                yield run.info.experiment_id, _from_run(run, path)

    def find(self, model_id: str) -> StoredModel | None:
        """See ModelRecords."""
        if is_run_model(model_id):
            run_id, path = split_run_model_id(model_id)
            run = self._find_run(run_id)
            return _from_run(run, path) if run and path else None
        name, _, number = model_id.rpartition("/")
        version = find_version(self._client, name, number)
        return self._from_version(version) if version else None

    def list_versions(self, model: StoredModel) -> list[tuple[str, int]]:
        """See ModelRecords."""
        own: list[tuple[str, int]] = []
        if not is_run_model(model.model_id):
            name, _, number = model.model_id.rpartition("/")
            own = [(name, int(number))]
        others = set[tuple[str, int]]()
        if model.run_id:
            for version in paginate(self._client.search_model_versions, filter_string=f"run_id = '{model.run_id}'"):
                if self._locate(version) == model.artifact_uri:
                    others.add((version.name, int(version.version)))
        return [*sorted(others.difference(own)), *own]

    def set_tag(self, model: StoredModel, key: str, value: str) -> None:
        """See ModelRecords."""
        if is_run_model(model.model_id):
            self._client.set_tag(split_run_model_id(model.model_id)[0], key, value)
        else:
            name, _, number = model.model_id.rpartition("/")
            self._client.set_model_version_tag(name, number, key, value)

    def delete_record(self, model: StoredModel) -> None:
        """See ModelRecords."""
        run = self._find_run(model.run_id) if model.run_id else None
        if run and model.artifact_uri.startswith(folder := _join(run.info.artifact_uri, "")):
            unlist_run_model(self._client, run, model.artifact_uri.removeprefix(folder))

    def _from_version(self, version: ModelVersion) -> StoredModel | None:
        """Return the model of a registered version; None if it is a logged model, or the version has no files."""
        if version.status != "READY" or _PROMPT_TAG in version.tags or find_logged_model_id(version):
            return None
        return StoredModel(
            model_id=f"{version.name}/{version.version}",
            name=version.name,
            artifact_uri=self._locate(version),
            created=version.creation_timestamp,
            run_id=version.run_id or None,
            tags=version.tags,
        )

    def _locate(self, version: ModelVersion) -> str:
        """Return the folder of a version's files, in the artifact store if that can be determined."""
        source = str(version.source)
        if source.startswith("models:/"):  # a copy of another version
            source = str(self._client.get_model_version_download_uri(version.name, version.version))
        if is_run_model(source):
            run_id, path = split_run_model_id(source)
            run = self._find_run(run_id)
            return _join(run.info.artifact_uri, path) if run else source
        return source.rstrip("/")

    def _find_run(self, run_id: str) -> Run | None:
        try:
            return self._client.get_run(run_id)
        except MlflowException as error:
            raise_unless_missing(error)
            return None


def find_logged_model_id(version: ModelVersion) -> str | None:
    """Return the id of the logged model that a version registers; None for a run's artifact."""
    # With SQLite, model_id is empty, but the source contains it.
    source = re.fullmatch(r"models:/(m-[\w-]+)", version.source or "")
    return version.model_id or (source[1] if source else None)


def from_logged_model(model: LoggedModel) -> StoredModel:
    """Return a logged model as a StoredModel."""
    return StoredModel(
        model_id=model.model_id,
        name=model.name,
        artifact_uri=model.artifact_location,
        created=model.creation_timestamp,
        run_id=model.source_run_id,
        tags=model.tags,
        experiment_id=model.experiment_id,
        is_complete=model.status == LoggedModelStatus.READY,
    )


def list_experiment_ids(client: MlflowClient) -> list[str]:
    """Return the ids of the experiments that are not deleted."""
    return [experiment.experiment_id for experiment in paginate(client.search_experiments)]


def list_deleted_experiments(client: MlflowClient) -> list[Experiment]:
    """Return the deleted experiments."""
    return list(paginate(client.search_experiments, view_type=ViewType.DELETED_ONLY))


def _from_run(run: Run, path: str) -> StoredModel:
    return StoredModel(
        model_id=run_model_id(run.info.run_id, path),
        name=run_model_name(run, path),
        artifact_uri=_join(run.info.artifact_uri, path),
        created=run.info.end_time or run.info.start_time,
        run_id=run.info.run_id,
        tags=run.data.tags,
    )


def _join(folder: str, path: str) -> str:
    return f"{folder.rstrip('/')}/{path}"


def _find_logged_model(client: MlflowClient, model_id: str) -> LoggedModel | None:
    try:
        return client.get_logged_model(model_id)
    except MlflowException as error:
        raise_unless_missing(error)
        return None


def find_version(client: MlflowClient, name: str, version: str) -> ModelVersion | None:
    """Return a registered version; None if there is none."""
    try:
        return client.get_model_version(name, version)
    except MlflowException as error:
        raise_unless_missing(error)
        return None
