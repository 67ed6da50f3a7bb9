"""Identifiers in Ray Serve: application names of models, and session keys of chats."""

import hashlib
import json
from typing import Any
from urllib.parse import quote, unquote

from phi3_ui.chat.types import ChatRequest

DEPLOYMENT = "Replica"
"""Name of the only deployment in a model's application."""
_PREFIX = "model-"
_BEGINNING = 200  # characters of a raw prompt


def name_application(model_id: str) -> str:
    """Return the name of a model's Serve application. Slashes, as in ids of MLflow 2, are escaped, because file names contain it."""
    return _PREFIX + quote(model_id, safe="")


def find_model_id(application: str) -> str:
    """Return the id of the model whose application has this name; empty for other applications."""
    return unquote(application.removeprefix(_PREFIX)) if application.startswith(_PREFIX) else ""


def find_session(request: ChatRequest) -> str:
    """Return a digest of the prompt's beginning, which is the same for all turns of a chat, and for chats that start alike."""
    beginning: list[Any] = []
    for message in request.messages:
        beginning.append([message.role, message.content])
        if message.role == "user":
            break
    if request.raw_prompt is not None:
        beginning = [request.raw_prompt[:_BEGINNING]]
    return hashlib.sha256(json.dumps(beginning).encode()).hexdigest()
