"""Log, name and find models that are run artifacts, as in stores without logged models."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from models.model_ids import run_model_id

HISTORY_TAG = "mlflow.log-model.history"
"""The run tag in which MLflow 2 lists the models that were logged in the run, as JSON."""


def run_model_name(run: Run, path: str) -> str:
    """Return a name for the model at `path` of a run's artifacts: the run's name if the artifact is called "model", as is common."""
    name = path.rpartition("/")[2]
    return str(run.info.run_name or name) if name == "model" else name


def list_run_models(run: Run) -> Iterator[str]:
    """Yield the paths of the models that were logged in a run, oldest first, as far as its tag can be parsed."""
    try:
        history = json.loads(run.data.tags.get(HISTORY_TAG, "[]"))
    except ValueError:
        history = None
    if not isinstance(history, list):
        return
    paths = [model.get("artifact_path") for model in history if isinstance(model, dict)]
    yield from dict.fromkeys(path for path in paths if isinstance(path, str))


def unlist_run_model(client: MlflowClient, run: Run, path: str) -> None:
    """Remove one model from the run's tag, if it is listed."""
    if path in list_run_models(run):
        history = json.loads(run.data.tags[HISTORY_TAG])
        kept = [model for model in history if not isinstance(model, dict) or model.get("artifact_path") != path]
        client.set_tag(run.info.run_id, HISTORY_TAG, json.dumps(kept))


def log_run_model(client: MlflowClient, run_id: str, flavor: Any, name: str, **contents: Any) -> str:
    """Save a model with `flavor.save_model` and log it as the artifact `name` of a run. Returns its id."""
    from mlflow.models import Model

    model = Model(artifact_path=name, run_id=run_id)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        flavor.save_model(path=str(folder), mlflow_model=model, **contents)
        client.log_artifacts(run_id, str(folder), name)
    # Last, so that a run whose logging was interrupted lists no model.
    client.set_tag(run_id, HISTORY_TAG, json.dumps([model.get_tags_dict()], default=str))
    return run_model_id(run_id, name)
