"""What was read of logged models, kept in a file from one run of the app to the next: a thousand MLmodel files take seconds."""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import mlflow
from mlflow.entities import LoggedModel

from phi3_ui.contracts.registry import all_contracts
from phi3_ui.store.registry.cards import ModelEntry

_State = list[int] | None
"""Of a model's MLmodel file, on this machine: nanoseconds of its last change, and bytes."""

_Kept = tuple[_State, ModelEntry | None]

_FORMAT = 2
"""Raise it whenever ModelEntry, or the code that fills it from an MLmodel, changes: older files are then ignored."""


class EntryCache:
    """The entries of one store's models, None for those that are no chat models. In memory alone where there is no `folder`.

    A logged model's MLmodel never changes once it is READY, so what was read of it stays true; of one that this machine
    holds, the first look in each process sees that it is still there, and the same.
    """

    def __init__(self, tracking_uri: str, folder: Path | None) -> None:
        self._file = folder / f"{hashlib.sha256(tracking_uri.encode()).hexdigest()[:16]}.json" if folder else None
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._unsure: dict[str, _Kept] | None = None  # of the file, and not looked at yet; None: not read yet
        self._saved = True

    def __contains__(self, model: LoggedModel) -> bool:
        with self._lock:
            if self._unsure is None:
                self._unsure = self._load()
            found = self._unsure.pop(model.model_id, None)
            if found and found[0] == _state(model):
                self._kept[model.model_id] = found
            return model.model_id in self._kept

    def __getitem__(self, model: LoggedModel) -> ModelEntry | None:
        return self._kept[model.model_id][1]

    def __setitem__(self, model: LoggedModel, entry: ModelEntry | None) -> None:
        with self._lock:
            self._kept[model.model_id] = (_state(model), entry)
            self._saved = False

    def save(self, model_ids: Collection[str]) -> None:
        """Write those of these models, if there are new ones. Where nothing may be written, they are read again next time."""
        with self._lock:
            if self._saved or self._file is None:
                return
            self._saved = True
            kept = {
                id_: (state, entry and asdict(entry)) for id_, (state, entry) in self._kept.items() if id_ in model_ids
            }
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(exist_ok=True)
            written = self._file.with_suffix(f".{os.getpid()}")
            written.write_text(json.dumps([_version(), kept], default=datetime.isoformat), encoding="utf-8")
            written.replace(self._file)

    def _load(self) -> dict[str, _Kept]:
        """What the file holds, if it was written by the code that runs now."""
        if self._file is None:
            return {}
        try:
            version, kept = json.loads(self._file.read_text(encoding="utf-8"))
            if version != _version():
                return {}
            return {id_: (state, entry and _entry(**entry)) for id_, (state, entry) in kept.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}  # there is none, or it is no such file


def local_mlmodel(model: LoggedModel) -> Path | None:
    """Where the model's MLmodel is on this machine; None where its store hands it out."""
    place = urlparse(model.artifact_location)
    if place.scheme not in ("", "file") or place.netloc or place.query:
        return None
    path = url2pathname(place.path) if place.scheme else model.artifact_location
    return Path(path) / "MLmodel" if os.path.isabs(path) else None


def _state(model: LoggedModel) -> _State:
    file = local_mlmodel(model)
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return [0, 0]
    return [found.st_mtime_ns, found.st_size]


def _entry(created: str, supported_params: list[str], **fields: Any) -> ModelEntry:
    return ModelEntry(created=datetime.fromisoformat(created), supported_params=tuple(supported_params), **fields)


def _version() -> list[int | str]:
    # A model that was no chat model may be one by a contract registered since.
    return [_FORMAT, mlflow.__version__, *(contract.name for contract in all_contracts())]
