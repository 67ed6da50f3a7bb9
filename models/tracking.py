"""One MLflow run per logged model: where it goes, what it records, and what a killed one leaves behind."""

import argparse
import importlib.metadata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus, RunStatus
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from models.presets import Origin, load_preset

EXPERIMENT = "phi3-chat"


@dataclass(frozen=True)
class Store:
    """A tracking store; `artifacts` is where a new experiment keeps its files (None: the store's own choice)."""

    tracking_uri: str
    artifacts: str | None = None

    def experiment_id(self) -> str:
        """The id of our experiment, made if need be."""
        client = MlflowClient(self.tracking_uri)
        if found := client.get_experiment_by_name(EXPERIMENT):
            return str(found.experiment_id)
        return str(client.create_experiment(EXPERIMENT, artifact_location=self.artifacts))


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument("--preset", help="whose weights they are")
    weights.add_argument("--name", help="what to call weights of your own")
    parser.add_argument("--folder", type=Path, required=True, help="the model's files")
    parser.add_argument("--tracking-uri", required=True)
    parser.add_argument("--artifacts", help="where a new experiment keeps its files")


def origin_of(arguments: argparse.Namespace) -> Origin:
    """Whose weights the parsed arguments name."""
    if arguments.preset:
        return load_preset(arguments.preset).origin
    return Origin(preset="", name=arguments.name, title=arguments.name, source=arguments.folder.name, license="")


def pinned(packages: Sequence[str]) -> list[str]:
    """`name==version` of installed packages, without local build labels such as +cpu, which no index serves."""
    return [f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in packages]


def size_of(folder: Path) -> int:
    """Bytes of all files in `folder`."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@contextmanager
def model_run(
    store: Store, name: str, tags: dict[str, str], params: dict[str, Any], metrics: dict[str, float]
) -> Iterator[None]:
    """An active run called `name` with these records, to log one model in. What a killed run of a preset left is cleared first.

    All that is measured goes in before the model, so that a model which is READY has a complete run.
    """
    import mlflow

    mlflow.set_tracking_uri(store.tracking_uri)
    experiment = store.experiment_id()
    if "preset" in tags:  # one set-up runs at a time; weights of one's own may be logged by several people at once
        clear_unfinished(store, experiment, tags)
    with mlflow.start_run(experiment_id=experiment, run_name=name, tags=tags):
        mlflow.log_params(params)
        mlflow.log_metrics(metrics)
        yield


def clear_unfinished(store: Store, experiment: str, tags: dict[str, str]) -> None:
    """Mark runs with `tags` that never ended as KILLED; delete their models that never became READY, files included."""
    client = MlflowClient(store.tracking_uri)
    query = " AND ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
    for run in client.search_runs([experiment], f"{query} AND attributes.status = 'RUNNING'"):
        client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))
    for model in _all_models(client, experiment, query):
        if model.status != LoggedModelStatus.READY:
            get_artifact_repository(model.artifact_location).delete_artifacts()
            client.delete_logged_model(model.model_id)


def _all_models(client: MlflowClient, experiment: str, query: str) -> list[LoggedModel]:
    found: list[LoggedModel] = []
    token = None
    while True:
        page = client.search_logged_models([experiment], filter_string=query, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
