"""How Serve knows models and chats: the names of their applications, and the keys of their sessions."""

import hashlib
import json
from typing import Any
from urllib.parse import quote, unquote

from phi3_ui.chat.types import ChatRequest

DEPLOYMENT = "Replica"
"""The only deployment of a model's application."""
_PREFIX = "model-"
_BEGINNING = 200  # characters of a raw prompt


def name_application(model_id: str) -> str:
    """The name of a model's Serve application. It becomes part of file names; ids of MLflow 2 have slashes."""
    return _PREFIX + quote(model_id, safe="")


def find_model_id(application: str) -> str:
    """The id of the model whose application has this name; empty for other applications."""
    return unquote(application.removeprefix(_PREFIX)) if application.startswith(_PREFIX) else ""


def find_session(request: ChatRequest) -> str:
    """A key that all turns of a chat share, and chats that begin in the same way: a digest of the prompt's beginning."""
    beginning: list[Any] = []
    for message in request.messages:
        beginning.append([message.role, message.content])
        if message.role == "user":
            break
    if request.raw_prompt is not None:
        beginning = [request.raw_prompt[:_BEGINNING]]
    return hashlib.sha256(json.dumps(beginning).encode()).hexdigest()
