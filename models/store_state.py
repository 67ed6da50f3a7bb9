"""Explain why a store refuses a request, as a StageError with a cure, by querying the store rather than from error texts."""

import contextlib
import re
import shlex
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES

from models.stage import StageError

_FORBIDDEN_CODES = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
# SQLite's and PostgreSQL's messages for a read-only database, for which there is no error code.
_READ_ONLY_MESSAGES = ("readonly database", "read-only", "permission denied")
_DELETED = "deleted"  # the lifecycle stage of experiments and runs that can be restored


def explain_refusal(tracking_uri: str, error: Exception) -> StageError | None:
    """Return the reason for a client error of `tracking_uri` if it concerns the whole store; None otherwise."""
    detail = first_line(error)
    if _is_forbidden(error):
        return StageError("store_read_only", uri=tracking_uri, detail=detail)
    # A database that is only locked or unreachable has another error code, and querying it would block again.
    is_internal = isinstance(error, MlflowException) and error.error_code == "INTERNAL_ERROR"
    is_database = urlsplit(tracking_uri).scheme.partition("+")[0] in DATABASE_ENGINES
    return _explain_schema(tracking_uri) if is_internal and is_database else None


def require_active_experiment(client: MlflowClient, experiment_id: str) -> None:
    """Raise StageError("experiment_deleted") for a deleted experiment."""
    experiment = client.get_experiment(experiment_id)
    if experiment.lifecycle_stage == _DELETED:
        raise StageError(
            "experiment_deleted", name=experiment.name, id=experiment_id, store=quote_store(client.tracking_uri)
        )


def require_active_run(client: MlflowClient, run_id: str) -> None:
    """Raise StageError("run_deleted" or "experiment_deleted") for a run that accepts no more data."""
    run = client.get_run(run_id)
    require_active_experiment(client, run.info.experiment_id)
    if run.info.lifecycle_stage == _DELETED:
        name = run.info.run_name or run_id
        raise StageError("run_deleted", name=name, id=run_id, store=quote_store(client.tracking_uri))


def quote_store(tracking_uri: str) -> str:
    """Quote a store's URI for a shell, without its password."""
    return shlex.quote(redact_passwords(tracking_uri))


def redact_passwords(text: str) -> str:
    """Replace the password of each URI in `text` by `***`, because error messages are shown on the page."""
    return re.sub(r"(?<=://)([^/@:\s]*):[^/@\s]*@", r"\1:***@", text)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, at most 200 characters, without passwords and a final full stop."""
    lines = redact_passwords(str(error)).strip().splitlines()
    return (lines or [type(error).__name__])[0][:200].rstrip(".")


def _is_forbidden(error: Exception) -> bool:
    if isinstance(error, MlflowException) and error.error_code in _FORBIDDEN_CODES:
        return True
    return isinstance(error, PermissionError) or any(text in str(error).lower() for text in _READ_ONLY_MESSAGES)


def _explain_schema(database_uri: str) -> StageError | None:
    """Return the reason if the schema of a database is that of another MLflow version; None otherwise."""
    import mlflow
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils
    from sqlalchemy.exc import SQLAlchemyError

    with contextlib.suppress(SQLAlchemyError, MlflowException, OSError):
        engine = utils.create_sqlalchemy_engine(database_uri)
        try:
            revision = utils._get_schema_version(engine)
        finally:
            engine.dispose()
        scripts = ScriptDirectory.from_config(utils._get_alembic_config(database_uri))
        if revision is None or revision in scripts.get_heads():
            return None
        known = {script.revision for script in scripts.walk_revisions()}
        code = "store_schema_old" if revision in known else "store_schema_new"
        return StageError(code, uri=database_uri, store=quote_store(database_uri), version=mlflow.__version__)
    return None
