"""Models in the layout of MLflow 2 and mlflow-export-import: run artifacts without logged models."""

import json
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from models.run_models import HISTORY_TAG
from phi3_ui.paths import ROOT


def log_say_model(client: MlflowClient, folder: Path, run_name: str, is_listed: bool = False) -> Run:
    """Log a chat model as the artifact "model" of a new run. `is_listed` also lists it in the run's tag, as MLflow 2 does."""
    experiment = client.get_experiment_by_name("models")
    id_ = experiment.experiment_id if experiment else client.create_experiment("models")
    run = client.create_run(id_, run_name=run_name)
    if not folder.exists():
        code = ROOT / "tests" / "support" / "say_model.py"
        mlflow.pyfunc.save_model(str(folder), python_model=str(code), pip_requirements=[])
    client.log_artifacts(run.info.run_id, str(folder), "model")
    if is_listed:
        history = [{"run_id": run.info.run_id, "artifact_path": "model", "flavors": {}}]
        client.set_tag(run.info.run_id, HISTORY_TAG, json.dumps(history))
    client.set_terminated(run.info.run_id)
    return run


def register_artifact(client: MlflowClient, name: str, source: str, run: Run) -> str:
    """Register `source`, a URI of a run's artifact, and return its version number."""
    if not client.search_registered_models(filter_string=f"name = '{name}'"):
        client.create_registered_model(name)
    return str(client.create_model_version(name, source, run.info.run_id).version)
