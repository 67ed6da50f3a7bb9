"""Create one MLflow run per logged model, with its provenance, in the configured store; clean up after killed runs."""

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Experiment, LoggedModel, LoggedModelStatus, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from models.hub_files import read_hub_record
from models.model_ids import is_run_model, run_model_id
from models.packages import find_installed
from models.presets import Origin, load_preset
from models.registry import register
from models.run_models import list_run_models, log_run_model
from models.stage import StageError
from models.store_features import find_features
from models.store_state import explain_refusal, require_active_experiment, require_active_run

EXPERIMENT = "phi3-chat"

_EXPERIMENT_TAG = "phi3_ui.experiment"  # its original name, by which it is found after it was renamed
_INHERITED_RUN = "MLFLOW_RUN_ID"


@dataclass(frozen=True)
class Store:
    """A tracking store; `artifacts` is the location of a new experiment's files (None: the store's default)."""

    tracking_uri: str
    artifacts: str | None = None
    experiment: str = EXPERIMENT

    def experiment_id(self) -> str:
        """Return the id of the experiment, creating it if it does not exist. Raises StageError: experiment_deleted."""
        client = MlflowClient(self.tracking_uri)
        if found := self.find_experiment():
            if _EXPERIMENT_TAG not in found.tags:
                with suppress(MlflowException):  # the store may be read-only
                    client.set_experiment_tag(found.experiment_id, _EXPERIMENT_TAG, self.experiment)
            return str(found.experiment_id)
        tags = {_EXPERIMENT_TAG: self.experiment}
        try:
            return str(client.create_experiment(self.experiment, artifact_location=self.artifacts, tags=tags))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or not (found := self.find_experiment()):
                raise
            return str(found.experiment_id)  # another server of the store created it concurrently

    def find_experiment(self) -> Experiment | None:
        """Return the experiment, even if it was renamed; None if there is none. Raises StageError: experiment_deleted."""
        client = MlflowClient(self.tracking_uri)
        if found := client.get_experiment_by_name(self.experiment):
            require_active_experiment(client, found.experiment_id)
            return found
        return self.find_renamed()

    def find_renamed(self) -> Experiment | None:
        """Return the experiment if it was renamed and no other experiment has its original name."""
        client = MlflowClient(self.tracking_uri)
        if client.get_experiment_by_name(self.experiment):
            return None
        query = f"tags.`{_EXPERIMENT_TAG}` = '{self.experiment}'"
        found: list[Experiment] = client.search_experiments(filter_string=query)
        return found[0] if found else None


@dataclass(frozen=True)
class Logged:
    """A logged model. `version` is its version under its name; if that is None, `not_registered` may give the reason."""

    model_id: str
    """Id of the logged model. In a store without logged models: name/version if it is registered, else runs:/… ."""
    name: str
    version: str | None = None
    not_registered: str = ""

    def result(self) -> dict[str, Any]:
        """Return the non-empty fields as the result of a program."""
        return {name: value for name, value in asdict(self).items() if value != ""}


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments common to programs that log a model."""
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument("--preset", help="the preset that the weights belong to")
    weights.add_argument("--name", help="a name for your own weights")
    parser.add_argument("--source", help="where your own weights come from, to be recorded")
    parser.add_argument("--folder", type=Path, required=True, help="the model's files")
    parser.add_argument("--tracking-uri", required=True)
    parser.add_argument("--artifacts", help="the location of a new experiment's files")
    parser.add_argument("--experiment", default=EXPERIMENT)
    parser.add_argument(
        "--measure", action=argparse.BooleanOptionalAction, default=True, help="measure load time and speed first"
    )
    parser.add_argument(
        "--register", action=argparse.BooleanOptionalAction, default=True, help="register it as a new version"
    )


def store_from_arguments(arguments: argparse.Namespace) -> Store:
    """Return the store given by the parsed arguments."""
    return Store(arguments.tracking_uri, arguments.artifacts, arguments.experiment)


def parse_origin(arguments: argparse.Namespace) -> Origin:
    """Return the origin of the weights given by the parsed arguments; missing fields are read from the folder's model card."""
    if arguments.preset:
        return load_preset(arguments.preset).origin
    from models.model_card import read_model_card

    card = read_model_card(arguments.folder)
    source = arguments.source or read_hub_record(arguments.folder).get("repo") or arguments.folder.resolve().name
    name = arguments.name
    return Origin(preset="", name=name, title=card.title or name, source=source, license=card.license)


def provenance(folder: Path, origin: Origin) -> dict[str, str]:
    """Return the provenance of the weights as run params: source and, for the hub, revision, commit and subfolder."""
    record = read_hub_record(folder)
    found = {"revision": record.get("revision"), "commit": record.get("commit"), "subfolder": record.get("folder")}
    source = {"source": record.get("repo") or origin.source}
    return origin.preset_tag | source | {name: value for name, value in found.items() if value}


def pin_versions(packages: Sequence[str]) -> list[str]:
    """Return `name==version` for installed packages, without local version labels such as +cpu, which no index serves."""
    return [f"{name}=={version.split('+')[0]}" for name, version in map(find_installed, packages)]


def folder_size(folder: Path) -> int:
    """Return the total size of all files in `folder`, in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@contextmanager
def model_run(
    store: Store, name: str, tags: dict[str, str], params: dict[str, Any], metrics: dict[str, float]
) -> Iterator[None]:
    """Open an active run with these tags, params and metrics for logging one model. Clean up after killed runs of the preset.

    The run is a new one called `name`, or that of an enclosing `mlflow run`. Metrics are recorded before the model, so that a
    READY model has a complete run. Raises StageError: store_unreachable, and the errors that store_state.py explains.
    """
    import mlflow

    with _translate_store_errors(store):
        # `log_model` only uses the process's store. This is the process of a logging program, which uses no other store.
        mlflow.set_tracking_uri(store.tracking_uri)
        if inherited := os.environ.get(_INHERITED_RUN):
            require_active_run(MlflowClient(store.tracking_uri), inherited)
            run = mlflow.start_run(tags=tags)
        else:
            experiment = store.experiment_id()
            if "preset" in tags:  # only one setup runs at a time, but several processes may log their own weights
                clear_unfinished(store, experiment, tags)
            run = mlflow.start_run(experiment_id=experiment, run_name=name, tags=tags)
        with run:
            mlflow.log_params(params)
            mlflow.log_metrics(metrics)
            yield


@contextmanager
def _translate_store_errors(store: Store) -> Iterator[None]:
    """Raise StageErrors for refusals by the store, and for any error caused by a lost connection to the server."""
    import requests

    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, (requests.ConnectionError, requests.Timeout)):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            if isinstance(error, MlflowException) and (reason := explain_refusal(store.tracking_uri, error)):
                raise reason from error
            raise
        raise StageError("store_unreachable", uri=store.tracking_uri, detail=type(cause).__name__) from error


def log_model(store: Store, flavor: Any, name: str, tags: dict[str, str], **contents: Any) -> Logged:
    """Log a model with the module `flavor`, such as mlflow.pyfunc, in the active run."""
    import mlflow

    if find_features(store.tracking_uri).logged_models:
        return Logged(str(flavor.log_model(name=name, tags=tags, **contents).model_id), name)
    run = mlflow.active_run()
    if run is None:
        raise RuntimeError("no run is active")
    return Logged(log_run_model(MlflowClient(store.tracking_uri), run.info.run_id, flavor, name, **contents), name)


def clear_unfinished(store: Store, experiment: str, tags: dict[str, str]) -> None:
    """Mark unfinished runs with `tags` as KILLED, and delete their models that never became READY, including files."""
    client = MlflowClient(store.tracking_uri)
    has_logged_models = find_features(store.tracking_uri).logged_models
    query = " AND ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
    for run in client.search_runs([experiment], f"{query} AND attributes.status = 'RUNNING'"):
        client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))
        if not has_logged_models and not list(list_run_models(run)):
            get_artifact_repository(run.info.artifact_uri, store.tracking_uri).delete_artifacts()
    if not has_logged_models:
        return
    for model in _list_models(client, experiment, query):
        if model.status != LoggedModelStatus.READY:
            get_artifact_repository(model.artifact_location).delete_artifacts()
            client.delete_logged_model(model.model_id)


def register_logged(logged: Logged, store: Store) -> Logged:
    """Register a logged model. If the store has no registry or denies access, the result contains the reason."""
    try:
        version = register(store.tracking_uri, logged.model_id)
    except MlflowException as error:
        return replace(logged, not_registered=str(error).splitlines()[0])
    model_id = f"{version.name}/{version.version}" if is_run_model(logged.model_id) else logged.model_id
    return replace(logged, model_id=model_id, version=version.version)


def register_missing(store: Store, preset: str) -> list[Logged]:
    """Register the READY models of a preset that have no version because their process was killed before registering them."""
    client = MlflowClient(store.tracking_uri)
    experiment = client.get_experiment_by_name(store.experiment)
    if experiment is None:
        return []
    query = f"tags.preset = '{preset}'"
    if find_features(store.tracking_uri).logged_models:
        found = _list_models(client, experiment.experiment_id, query)
        ready = [Logged(model.model_id, model.name) for model in found if model.status == LoggedModelStatus.READY]
    else:
        ready = [
            Logged(run_model_id(run.info.run_id, name), name)
            for run in client.search_runs([experiment.experiment_id], query)
            for name in list_run_models(run)
        ]
    return [register_logged(logged, store) for logged in reversed(ready)]


def _list_models(client: MlflowClient, experiment: str, query: str) -> list[LoggedModel]:
    found: list[LoggedModel] = []
    token = None
    while True:
        page = client.search_logged_models([experiment], filter_string=query, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
