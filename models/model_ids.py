"""The ids of models in a store.

    m-…               a logged model
    name/version      a registered version of a run's artifact
    runs:/run/path    a run's artifact that is not registered

The last two occur in stores without logged models: MLflow 2, Azure ML, and stores migrated from there.
"""

_PREFIX = "runs:/"


def is_run_model(model_id: str) -> bool:
    """Whether an id is that of an unregistered run artifact."""
    return model_id.startswith(_PREFIX)


def is_logged_model(model_id: str) -> bool:
    """Whether an id is that of a logged model; otherwise it is name/version or runs:/… ."""
    return "/" not in model_id


def run_model_id(run_id: str, path: str) -> str:
    """Return the id of the model at `path` of a run's artifacts."""
    return f"{_PREFIX}{run_id}/{path}"


def split_run_model_id(model_id: str) -> tuple[str, str]:
    """Return run id and path of a run artifact."""
    run_id, _, path = model_id.removeprefix(_PREFIX).partition("/")
    return run_id, path.rstrip("/")
