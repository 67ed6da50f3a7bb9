"""Model entries cached in a file between runs of the app: parsing a thousand MLmodel files takes seconds."""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow

from phi3_ui.chat.types import Message
from phi3_ui.contracts.registry import all_contracts
from phi3_ui.store.registry.cards import LoggedRequest, ModelEntry
from phi3_ui.store.registry.mlmodel import find_local_mlmodel
from phi3_ui.store.registry.records import StoredModel

_FORMAT = 7
"""Increment it with every change of ModelEntry or of the code that fills it from an MLmodel: files of other formats are ignored."""

_FileState = list[str | int]
"""The location of the model's files, its creation time, and modification time (ns) and size (bytes) of a local MLmodel file.

The location and the creation time are needed because the number of a deleted version may be reused for another model.
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedEntry:
    """The parsed MLmodel of one model."""

    file_state: _FileState
    entry: ModelEntry | None
    """None for a model that is not chat-capable."""


class EntryCache:
    """The entries of one store's models. Thread-safe. Without a `folder`, it is in memory only.

    The MLmodel of a completely logged model never changes, so an entry stays valid. A local file is checked once per process: it
    must still exist and be unchanged.
    """

    def __init__(self, tracking_uri: str, folder: Path | None) -> None:
        self._file = folder / f"{hashlib.sha256(tracking_uri.encode()).hexdigest()[:16]}.json" if folder else None
        self._lock = threading.Lock()
        self._entries: dict[str, CachedEntry] = {}
        self._unchecked: dict[str, CachedEntry] | None = None  # from the file; None until it is read
        self._is_saved = True

    def get(self, model: StoredModel) -> CachedEntry | None:
        """Return the valid cached entry of a model, if there is one."""
        with self._lock:
            if self._unchecked is None:
                self._unchecked = self._load()
            cached = self._unchecked.pop(model.model_id, None)
            if cached and cached.file_state == _file_state(model):
                self._entries[model.model_id] = cached
            return self._entries.get(model.model_id)

    def put(self, model: StoredModel, entry: ModelEntry | None) -> CachedEntry:
        """Cache a parsed entry; None for a model that is not chat-capable."""
        cached = CachedEntry(_file_state(model), entry)
        with self._lock:
            self._entries[model.model_id] = cached
            self._is_saved = False
        return cached

    def save(self, model_ids: Collection[str]) -> None:
        """Write the entries of these models if there are new ones. A failure is logged; it only costs time."""
        with self._lock:
            if self._is_saved or self._file is None:
                return
            self._is_saved = True
            rows = {
                id_: (cached.file_state, cached.entry and asdict(cached.entry))
                for id_, cached in self._entries.items()
                if id_ in model_ids
            }
            try:
                self._file.parent.mkdir(exist_ok=True)
                temporary = self._file.with_suffix(f".{os.getpid()}")
                temporary.write_text(json.dumps([_version(), rows], default=datetime.isoformat), encoding="utf-8")
                temporary.replace(self._file)
            except OSError as error:
                logger.info("Could not cache the model entries in %s: %s", self._file, error)

    def _load(self) -> dict[str, CachedEntry]:
        """Return the content of the file, if it was written by the same versions of this code and MLflow."""
        if self._file is None or not self._file.exists():
            return {}
        try:
            version, rows = json.loads(self._file.read_text(encoding="utf-8"))
            if version != _version():
                return {}
            return {id_: CachedEntry(state, entry and _parse_entry(**entry)) for id_, (state, entry) in rows.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            logger.info("Could not read the cached model entries in %s: %r", self._file, error)
            return {}


def _file_state(model: StoredModel) -> _FileState:
    identity: _FileState = [model.artifact_uri, model.created]
    file = find_local_mlmodel(model)
    if file is None:
        return identity
    try:
        found = file.stat()
    except OSError:
        return [*identity, 0, 0]  # differs from every cached entry, whose file existed
    return [*identity, found.st_mtime_ns, found.st_size]


def _parse_entry(
    created: str, supported_params: list[str], logged_request: dict[str, Any] | None, **fields: Any
) -> ModelEntry:
    request = logged_request and LoggedRequest(
        logged_request["model"], tuple(Message(**message) for message in logged_request["messages"])
    )
    return ModelEntry(
        created=datetime.fromisoformat(created),
        supported_params=tuple(supported_params),
        logged_request=request or None,
        **fields,
    )


def _version() -> list[int | str]:
    # Registering another contract changes which models are chat-capable.
    return [_FORMAT, mlflow.__version__, *(contract.name for contract in all_contracts())]
