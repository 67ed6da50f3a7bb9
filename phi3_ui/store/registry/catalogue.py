"""The chat-capable models of a store, and the details of each."""

import contextlib
import logging
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from models.store_state import quote_store
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.registry import find_contract
from phi3_ui.errors import UserError
from phi3_ui.prompts.templates import TEMPLATES
from phi3_ui.store.errors import is_missing, translate_store_errors
from phi3_ui.store.registry.cards import LoggedRequest, ModelCard, ModelEntry, RegisteredVersion, RunSummary
from phi3_ui.store.registry.entry_cache import EntryCache
from phi3_ui.store.registry.mlmodel import NO_MLMODEL, find_local_mlmodel, load_mlmodel
from phi3_ui.store.registry.openai_flavor import is_openai_model, read_logged_request
from phi3_ui.store.registry.records import StoredModel
from phi3_ui.store.registry.store_models import StoreModels
from phi3_ui.store.registry.trust import declares_code
from phi3_ui.store.registry.versions import list_versions

ONNX_ARTIFACT = "phi3-mini-onnx"  # the artifact name in models/phi3_onnx.py, whose import would load the engine
_MAX_INT = 2**53  # floats hold it exactly
TEMPLATE_TAG = "phi3_ui.template"  # a tag of a logged model: the prompt template chosen for it

logger = logging.getLogger(__name__)


__all__ = [
    "ONNX_ARTIFACT",
    "Catalogue",
    "ModelCard",
    "ModelEntry",
    "RegisteredVersion",
    "RunSummary",
]


class Catalogue:
    """Reads the models of one tracking store. Thread-safe. Methods raise UserError("store_unreachable") if it fails."""

    def __init__(self, tracking_uri: str, folder: Path | None = None) -> None:
        """`folder` holds the cache of parsed model entries between runs of the app."""
        self.tracking_uri = tracking_uri
        self._store = StoreModels(tracking_uri)
        self._entries = EntryCache(tracking_uri, folder)
        self._lock = threading.Lock()  # guards the attribute below
        self._unreadable: dict[str, tuple[str, str]] = {}

    @property
    def unreadable_models(self) -> dict[str, tuple[str, str]]:
        """Name and reason, by model id, of the models whose files could not be read at the last attempt."""
        with self._lock:
            return dict(self._unreadable)

    def list_models(self) -> list[ModelEntry]:
        """Return the chat-capable models, newest first."""
        with self._translate_errors():
            models = self._store.list_models()
            entries = [self._get_entry(model) for model in models]
        self._entries.save({model.model_id for model in models})
        return [entry for entry in entries if entry is not None]

    def find_deletion(self, name: str = "") -> UserError | None:
        """Return models_deleted if deleted experiments contain chat-capable models, or one called `name`; None otherwise."""
        found = dict[str, Experiment]()
        with self._translate_errors():
            for experiment, model in self._store.list_deleted():
                is_wanted = not name or name in (model.name, model.model_id)
                if is_wanted and experiment.experiment_id not in found and self._get_entry(model):
                    found[experiment.experiment_id] = experiment
        if not found:
            return None
        names = ", ".join(f"{experiment.name} ({id_})" for id_, experiment in found.items())
        return UserError("models_deleted", names=names, id=next(iter(found)), store=quote_store(self.tracking_uri))

    def explain_absence(self, name: str, is_empty: bool) -> UserError | None:
        """Return why there is no chat-capable model called `name`, in any form of `find`; None if it simply does not exist.

        The reason is model_unreadable, or models_deleted: its experiment was deleted or, if `is_empty`, any experiment
        with models.
        """
        with contextlib.suppress(UserError), self._translate_errors():
            name = self._store.find(name).model_id
        for model_id, (model_name, reason) in self.unreadable_models.items():
            if name in (model_id, model_name):
                return _create_unreadable_error(model_name, reason)
        return self.find_deletion("" if is_empty else name)

    def find(self, name: str | None) -> ModelEntry:
        """Return the model with this name, in any form that `resolve_model_id` accepts.

        Raises:
            UserError: no_model without a name, model_gone if there is no such chat-capable model, model_unreadable.
        """
        return self._find(name)[1]

    def list_versions(self) -> dict[str, tuple[RegisteredVersion, ...]]:
        """Return the registered versions with their aliases, by the id of their model, oldest first."""
        with self._translate_errors():
            return list_versions(self._store.client)

    def set_template(self, model_id: str, template: str) -> bool:
        """Store the prompt template chosen for a model, a key of TEMPLATES; return False if the store is read-only."""
        if template not in TEMPLATES:
            raise ValueError(f"unknown template: {template!r}")
        model, _ = self._find(model_id)
        try:
            with self._translate_errors():
                self._store.set_tag(model, TEMPLATE_TAG, template)
        except UserError as error:
            if error.code != "store_read_only":
                raise
            return False
        return True

    def load_card(self, name: str) -> ModelCard:
        """Return the details of one model. Raises UserError like `find`."""
        model, entry = self._find(name)
        with self._translate_errors():
            info = load_mlmodel(self.tracking_uri, model)
            metadata: dict[str, Any] = info.metadata or {}
            return ModelCard(
                entry=entry,
                title=_to_string(metadata.get("title")),
                license=_to_string(metadata.get("license")),
                context_length=_to_positive_int(metadata.get("context_length")),
                signature=_format_signature(info),
                run=self._load_run(entry.run_id) if entry.run_id else None,
                versions=tuple(self._store.list_versions(model)),
                experiment_id=model.experiment_id,
            )

    def load_declaration(self, entry: ModelEntry) -> ModelDeclaration:
        """Return what a model's MLmodel file declares. Raises UserError like `find`."""
        model, _ = self._find(entry.model_id)
        with self._translate_errors():
            return ModelDeclaration.from_mlmodel(load_mlmodel(self.tracking_uri, model))

    def _translate_errors(self) -> AbstractContextManager[None]:
        return translate_store_errors(self.tracking_uri)

    def _find(self, name: str | None) -> tuple[StoredModel, ModelEntry]:
        if not name:
            raise UserError("no_model")
        with self._translate_errors():
            model = self._store.find(name)
            entry = self._get_entry(model) if model.is_complete else None
        if entry is None:
            name, detail = self.unreadable_models.get(model.model_id, (model.name, ""))
            # A run lists its models by tag, so a model without its MLmodel file has been removed.
            is_removed = model.model_id.startswith("runs:/") and detail == NO_MLMODEL
            raise _create_unreadable_error(name, detail) if detail and not is_removed else UserError("model_gone")
        return model, entry

    def _get_entry(self, model: StoredModel) -> ModelEntry | None:
        """Return the model's entry; None if it is not chat-capable or cannot be read."""
        cached = self._entries.get(model)
        if cached is None:
            try:
                cached = self._entries.put(model, self._parse_entry(model))
            except (requests.ConnectionError, requests.Timeout):
                raise  # the store is unreachable, not this model
            except Exception as error:  # noqa: BLE001 - a damaged file fails in many ways and must not hide other models
                self._note_unreadable(model, error)
                return None
            with self._lock:
                self._unreadable.pop(model.model_id, None)
        # Tags are not cached, since they may change.
        template, preset = model.tags.get(TEMPLATE_TAG), model.tags.get("preset") or None
        return cached.entry and replace(
            cached.entry, template=template if template in TEMPLATES else None, preset=preset
        )

    def _note_unreadable(self, model: StoredModel, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, UserError) and error.code == "model_unreadable":
            reason = str(error.values["detail"])
        with self._lock:
            is_known = self._unreadable.get(model.model_id) == (model.name, reason)
            self._unreadable[model.model_id] = (model.name, reason)
        if not is_known:
            expected = isinstance(error, (MlflowException, OSError, UserError))
            exc_info = None if expected else error
            logger.info("Could not read the model %s (%s): %s", model.name, model.model_id, reason, exc_info=exc_info)

    def _parse_entry(self, model: StoredModel) -> ModelEntry | None:
        info = load_mlmodel(self.tracking_uri, model)
        if is_openai_model(info):
            request = read_logged_request(self.tracking_uri, model)
            return self._build_openai_entry(model, info, request) if request else None
        declaration = ModelDeclaration.from_mlmodel(info)
        contract = find_contract(declaration)
        if contract is None:
            return None
        file = find_local_mlmodel(model)
        return ModelEntry(
            name=model.name,
            model_id=model.model_id,
            uri=model.uri,
            contract=contract.name,
            flavor="transformers" if "transformers" in info.flavors else "pyfunc",
            engine=_detect_engine(info),
            created=_to_utc(model.created),
            size_bytes=_to_positive_int(info.model_size_bytes),
            run_id=model.run_id,
            preset=None,
            tracking_uri=self.tracking_uri,
            requires_template=contract.requires_template(declaration),
            supported_params=tuple(sorted(contract.supported_params(declaration))),
            streamable=declaration.streamable,
            context_length=_to_positive_int(declaration.metadata.get("context_length")),
            degrades_after=_to_positive_int(declaration.metadata.get("degrades_after")),
            folder=str(file.parent) if file else None,
            declares_code=declares_code(info.flavors),
            can_continue=contract.can_continue,
        )

    def _build_openai_entry(self, model: StoredModel, info: Model, request: LoggedRequest) -> ModelEntry:
        return ModelEntry(
            name=model.name,
            model_id=model.model_id,
            uri=model.uri,
            contract="openai",
            flavor="openai",
            engine="openai",
            created=_to_utc(model.created),
            size_bytes=_to_positive_int(info.model_size_bytes),
            run_id=model.run_id,
            preset=None,
            tracking_uri=self.tracking_uri,
            streamable=True,
            logged_request=request,
        )

    def _load_run(self, run_id: str) -> RunSummary | None:
        try:
            run = self._store.client.get_run(run_id)
        except MlflowException as error:
            if is_missing(error):
                return None
            raise
        return RunSummary(
            run_id=run_id,
            name=run.info.run_name or run_id,
            experiment=self._store.client.get_experiment(run.info.experiment_id).name,
            status=run.info.status,
            started=_to_utc(run.info.start_time),
            params=dict(run.data.params),
            metrics=dict(run.data.metrics),
            tags={name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")},
            experiment_id=run.info.experiment_id,
            is_deleted=run.info.lifecycle_stage == LifecycleStage.DELETED,
        )


def _create_unreadable_error(name: str, reason: str) -> UserError:
    return UserError("model_unreadable", model=name, detail=reason.splitlines()[0][:200].rstrip("."))


def _to_string(value: Any) -> str:
    """Return a declared text; empty for any other type, since third-party models may declare anything."""
    return value if isinstance(value, str) else ""


def _to_positive_int(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 < value < _MAX_INT else None


def _detect_engine(info: Model) -> str:
    if "transformers" in info.flavors:
        return "transformers"
    return "onnxruntime-genai" if ONNX_ARTIFACT in info.flavors["python_function"].get("artifacts", {}) else "python"


def _format_signature(info: Model) -> dict[str, tuple[str, ...]]:
    signature = info.signature
    if signature is None:
        return {}
    schemas = {"inputs": signature.inputs, "outputs": signature.outputs, "params": signature.params}
    return {name: tuple(map(str, schema)) for name, schema in schemas.items() if schema is not None}


def _to_utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def choose_default_model(entries: Sequence[ModelEntry]) -> ModelEntry | None:
    """Return the model to preselect from entries sorted newest first: the newest one.

    If its preset was logged in several ways, return the one with `predict_stream`: the ONNX wrapper decodes several times as fast
    as the pipeline.
    """
    if not entries:
        return None
    newest = entries[0]
    same_preset = [entry for entry in entries if entry.preset and entry.preset == newest.preset]
    return next((entry for entry in same_preset if entry.streamable), newest)
