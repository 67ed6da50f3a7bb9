"""Translates errors of MLflow's client to UserErrors."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from models.stage import StageError
from models.store_state import explain_refusal, first_line, quote_store, redact_passwords, require_active_experiment
from models.tracking import Store
from phi3_ui.errors import UserError


@contextmanager
def translate_store_errors(uri: str) -> Iterator[None]:
    """Turn errors of the client of the store `uri`, and StageErrors, that the block raises into UserErrors.

    Raises:
        UserError: store_read_only, store_schema_old, store_schema_new, store_unreachable, or a StageError's code.
    """
    try:
        yield
    except StageError as error:
        raise UserError(error.code, **error.values) from error
    except (MlflowException, SQLAlchemyError, OSError) as error:
        shown = redact_passwords(uri)
        reason = explain_refusal(uri, error) or StageError("store_unreachable", uri=shown, detail=first_line(error))
        raise UserError(reason.code, **reason.values) from error


def find_rename(store: Store) -> UserError | None:
    """Return the notice that a store's experiment has been renamed; None if it has not."""
    with translate_store_errors(store.tracking_uri):
        found = store.find_renamed()
    if found is None:
        return None
    return UserError(
        "experiment_renamed",
        wanted=store.experiment,
        name=found.name,
        id=found.experiment_id,
        store=quote_store(store.tracking_uri),
    )


def find_notice(store: Store) -> UserError | None:
    """Return the notice that a store's experiment, with its models and chats, was deleted or renamed; None if it was not."""
    try:
        with translate_store_errors(store.tracking_uri):
            store.find_experiment()
    except UserError as error:
        return error
    return find_rename(store)


def find_obstacle(tracking_uri: str, experiment_id: str) -> UserError | None:
    """Return why an experiment cannot be written to, as far as reading shows: it is deleted, or the store does not respond."""
    try:
        with translate_store_errors(tracking_uri):
            require_active_experiment(MlflowClient(tracking_uri), experiment_id)
    except UserError as error:
        return error
    return None


def is_missing(error: MlflowException) -> bool:
    """Return whether the requested object does not exist."""
    return bool(error.error_code == "RESOURCE_DOES_NOT_EXIST")


def raise_unless_missing(error: MlflowException) -> None:
    """Raise `error`, unless it means that an object does not exist, or cannot exist under its name."""
    # MLflow reports a name that no registered model can have as an invalid value.
    if not is_missing(error) and error.error_code != "INVALID_PARAMETER_VALUE":
        raise error
