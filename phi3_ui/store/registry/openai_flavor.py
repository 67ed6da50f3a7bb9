"""Models that MLflow's openai flavour logged: a name and messages, read as data. They are never loaded."""

import tempfile
from pathlib import Path
from string import Formatter
from typing import Any, cast, get_args

from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from phi3_ui.chat.types import Message, Role
from phi3_ui.errors import UserError
from phi3_ui.store.errors import is_missing
from phi3_ui.store.registry.cards import LoggedRequest
from phi3_ui.store.registry.mlmodel import find_local_mlmodel
from phi3_ui.store.registry.mlmodel_yaml import MAX_BYTES, parse_yaml
from phi3_ui.store.registry.records import StoredModel

_LOADER = "mlflow.openai"
_FILE = "model.yaml"
_TASK = "chat.completions"
_MAX_NAME = 200


def is_openai_model(info: Model) -> bool:
    """Return whether MLflow's openai flavour logged it."""
    return bool(info.flavors.get("python_function", {}).get("loader_module") == _LOADER)


def read_logged_request(tracking_uri: str, model: StoredModel) -> LoggedRequest | None:
    """Read the content of such a model; None if it is not a chat.

    Raises:
        UserError: model_unreadable.
        MlflowException: The store does not respond.
    """
    try:
        return parse_logged_request(parse_yaml(_read_file(tracking_uri, model)))
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError("model_unreadable", model=model.name, detail=f"{_FILE}: {reason}") from error


def parse_logged_request(content: Any) -> LoggedRequest | None:
    """Parse the request in a model.yaml; None if it is not a chat. Raises ValueError if it is damaged."""
    if not isinstance(content, dict) or content.get("task") != _TASK:
        return None
    name, messages = content.get("model"), content.get("messages") or []
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not isinstance(messages, list):
        raise ValueError("it names no model")
    parsed = [_parse_message(one) for one in messages]
    # MLflow substitutes the question for a variable; the chat replaces a final message that is just a variable.
    if parsed and parsed[-1] is None and _is_question(messages[-1]):
        parsed = parsed[:-1]
    opening = tuple(one for one in parsed if one)
    return LoggedRequest(name, opening) if len(opening) == len(parsed) else None


def _parse_message(message: Any) -> Message | None:
    """Parse a message as MLflow would send it; None if it has variables. Raises ValueError if it is damaged."""
    role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
    role = "system" if role == "developer" else role
    if role not in get_args(Role) or not isinstance(content, str):
        raise ValueError("a message has no role and text")
    pieces = list(Formatter().parse(content))  # raises ValueError for a single brace, which MLflow also refuses
    if any(field is not None for _, field, _, _ in pieces):
        return None
    return Message(cast("Role", role), "".join(literal for literal, *_ in pieces))


def _is_question(message: dict[str, Any]) -> bool:
    pieces = list(Formatter().parse(message["content"]))
    return message.get("role") == "user" and len(pieces) == 1 and pieces[0][0] == ""


def _read_file(tracking_uri: str, model: StoredModel) -> str:
    """Return the text of the file. Raises OSError, ValueError or MlflowException."""
    if mlmodel := find_local_mlmodel(model):
        return _read_bounded(mlmodel.with_name(_FILE))
    with tempfile.TemporaryDirectory() as folder:
        repository = get_artifact_repository(model.artifact_uri, tracking_uri)
        try:
            return _read_bounded(Path(repository.download_artifacts(_FILE, folder)))
        except MlflowException as error:
            if is_missing(error):
                raise ValueError("it is missing") from error
            raise


def _read_bounded(file: Path) -> str:
    if file.is_symlink() or not file.is_file():  # the content of another file must not be sent to a server
        raise ValueError("it is not a file")
    with file.open("rb") as opened:
        return opened.read(MAX_BYTES + 1).decode("utf-8")
