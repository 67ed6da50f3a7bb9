"""What the store holds: the chat-capable logged models, and what is known of each."""

import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import requests
import yaml  # type: ignore[import-untyped]
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.registry import find_contract
from phi3_ui.errors import UserError
from phi3_ui.prompts.templates import TEMPLATES
from phi3_ui.store.errors import is_missing, translate_store_errors
from phi3_ui.store.registry.cards import ModelCard, ModelEntry, RegisteredAlias, RegisteredVersion, RunSummary
from phi3_ui.store.registry.entry_cache import EntryCache, local_mlmodel
from phi3_ui.store.registry.names import list_aliases, list_versions, pages, resolve_model_id

ONNX_ARTIFACT = "phi3-mini-onnx"  # the artifact key of models/phi3_onnx.py, whose import would bring the engine in
TEMPLATE_TAG = "phi3_ui.template"  # on a logged model: the prompt template that somebody picked for it

_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

logger = logging.getLogger(__name__)


__all__ = [
    "ONNX_ARTIFACT",
    "Catalogue",
    "ModelCard",
    "ModelEntry",
    "RegisteredAlias",
    "RegisteredVersion",
    "RunSummary",
]


class Catalogue:
    """Views of one tracking store. All methods raise UserError("store_unreachable") when it does not answer.

    `folder` is where what was read of its models is kept between runs.
    """

    def __init__(self, tracking_uri: str, folder: Path | None = None) -> None:
        self.tracking_uri = tracking_uri
        self._client: MlflowClient | None = None
        self._lock = threading.Lock()
        self._entries = EntryCache(tracking_uri, folder)
        # By id, the names of the models that could not be read when they were last looked at, and why.
        self.unreadable_models: dict[str, tuple[str, str]] = {}

    def list_models(self) -> list[ModelEntry]:
        """The chat-capable models, newest first."""
        with self._answering():
            models = list(self._ready_models())
            entries = [self._entry(model) for model in models]
        self._entries.save({model.model_id for model in models})
        return [entry for entry in entries if entry is not None]

    def find(self, key: str | None) -> ModelEntry:
        """The model that `key` names, in any of the ways of names.py.

        UserError: no_model without a key, model_gone if it is not there or no chat model.
        """
        if not key:
            raise UserError("no_model")
        with self._answering():
            entry = self._entry(self._ready(resolve_model_id(self._mlflow, key)))
        if entry is None:
            raise UserError("model_gone")
        return entry

    def list_aliases(self) -> list[RegisteredAlias]:
        """The aliases of the registry that point at chat-capable models, by name."""
        with self._answering():
            return [card for card in list_aliases(self._mlflow) if self._is_chat_model(card.model_id)]

    def set_template(self, model_id: str, key: str) -> bool:
        """Keep the picked prompt template, a key of TEMPLATES, with the model. False if the store may not be written."""
        if key not in TEMPLATES:
            raise ValueError(f"no template is called {key}")
        entry = self.find(model_id)
        try:
            with self._answering():
                self._mlflow.set_logged_model_tags(entry.model_id, {TEMPLATE_TAG: key})
        except UserError as error:
            if error.code != "store_read_only":
                raise
            return False
        return True

    def load_card(self, key: str) -> ModelCard:
        """Everything known of one model. UserError: model_gone."""
        entry = self.find(key)
        with self._answering():
            info = Model.load(entry.uri)
            declared: dict[str, Any] = info.metadata or {}
            return ModelCard(
                entry=entry,
                title=_text(declared.get("title")),
                license=_text(declared.get("license")),
                context_length=_whole(declared.get("context_length")),
                signature=_signature(info),
                run=self._run(entry.run_id) if entry.run_id else None,
                versions=tuple(list_versions(self._mlflow, entry.model_id)),
                experiment_id=self._mlflow.get_logged_model(entry.model_id).experiment_id,
            )

    def load_declaration(self, entry: ModelEntry) -> ModelDeclaration:
        """What its MLmodel says of a model. UserError: store_unreachable."""
        with self._answering():
            return ModelDeclaration.from_mlmodel(Model.load(entry.uri))

    @property
    def _mlflow(self) -> MlflowClient:
        with self._lock:
            if mlflow.get_tracking_uri() != self.tracking_uri:
                # A models:/ URI is resolved by the process's own tracking URI.
                mlflow.set_tracking_uri(self.tracking_uri)
            if self._client is None:
                self._client = MlflowClient(self.tracking_uri)
            return self._client

    def _answering(self) -> AbstractContextManager[None]:
        return translate_store_errors(self.tracking_uri)

    def _ready(self, model_id: str | None) -> LoggedModel:
        """UserError: model_gone if there is none with this id, or it is not whole."""
        try:
            model = self._mlflow.get_logged_model(model_id) if model_id else None
        except MlflowException as error:
            if is_missing(error):
                raise UserError("model_gone") from error
            raise
        if model is None or model.status != LoggedModelStatus.READY:
            raise UserError("model_gone")
        return model

    def _is_chat_model(self, model_id: str) -> bool:
        try:
            return self._entry(self._ready(model_id)) is not None
        except UserError as error:
            if error.code != "model_gone":
                raise
            return False

    def _ready_models(self) -> Iterator[LoggedModel]:
        experiments = [experiment.experiment_id for experiment in pages(self._mlflow.search_experiments)]
        if not experiments:
            return
        newest_first = [{"field_name": "creation_timestamp", "ascending": False}]
        for model in pages(self._mlflow.search_logged_models, experiment_ids=experiments, order_by=newest_first):
            # SQLite stores find nothing for a filter on status.
            if model.status == LoggedModelStatus.READY:
                yield model

    def _entry(self, model: LoggedModel) -> ModelEntry | None:
        if model not in self._entries:
            try:
                self._entries[model] = self._read_entry(model)
            except (requests.ConnectionError, requests.Timeout):
                raise  # the store is gone, not this model
            except Exception as error:
                # Its files are gone, out of reach or damaged, in whatever way: the others are there all the same, and it
                # is looked at again next time.
                self._tell_unreadable(model, error)
                return None
        entry = self._entries[model]
        # Unlike the rest, tags change.
        picked, preset = model.tags.get(TEMPLATE_TAG), model.tags.get("preset") or None
        return entry and replace(entry, template=picked if picked in TEMPLATES else None, preset=preset)

    def _tell_unreadable(self, model: LoggedModel, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        if self.unreadable_models.get(model.model_id) != (model.name, why):
            self.unreadable_models[model.model_id] = (model.name, why)
            expected = isinstance(error, (MlflowException, OSError))
            logger.info("The logged model %s (%s) cannot be read", model.name, model.model_id, exc_info=not expected)

    def _read_entry(self, model: LoggedModel) -> ModelEntry | None:
        info = _read_mlmodel(model)
        declared = ModelDeclaration.from_mlmodel(info)
        contract = find_contract(declared)
        if contract is None:
            return None
        return ModelEntry(
            name=model.name,
            model_id=model.model_id,
            uri=f"models:/{model.model_id}",
            contract=contract.name,
            flavor="transformers" if "transformers" in info.flavors else "pyfunc",
            engine=_engine(info),
            created=_utc(model.creation_timestamp),
            size_bytes=info.model_size_bytes,
            run_id=model.source_run_id,
            preset=None,
            tracking_uri=self.tracking_uri,
            requires_template=contract.requires_template(declared),
            supported_params=tuple(sorted(contract.supported_params(declared))),
            streamable=declared.streamable,
            context_length=_whole(declared.metadata.get("context_length")),
            degrades_after=_whole(declared.metadata.get("degrades_after")),
        )

    def _run(self, run_id: str) -> RunSummary | None:
        try:
            run = self._mlflow.get_run(run_id)
        except MlflowException as error:
            if is_missing(error):
                return None
            raise
        return RunSummary(
            run_id=run_id,
            name=run.info.run_name or run_id,
            experiment=self._mlflow.get_experiment(run.info.experiment_id).name,
            status=run.info.status,
            started=_utc(run.info.start_time),
            params=dict(run.data.params),
            metrics=dict(run.data.metrics),
            tags={name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")},
            experiment_id=run.info.experiment_id,
        )


def _read_mlmodel(model: LoggedModel) -> Model:
    """As Model.load, which asks the store once more and takes MLflow's slow YAML reader."""
    if (file := local_mlmodel(model)) is None:
        return Model.load(f"models:/{model.model_id}")
    try:
        return Model.from_dict(yaml.load(file.read_text(encoding="utf-8"), _YAML))
    except yaml.YAMLError as error:
        raise MlflowException(f"{file} is no MLmodel: {error}") from error


def _text(value: Any) -> str:
    """What a model of other code's declares under a name that we know may be anything."""
    return value if isinstance(value, str) else ""


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _engine(info: Model) -> str:
    if "transformers" in info.flavors:
        return "transformers"
    return "onnxruntime-genai" if ONNX_ARTIFACT in info.flavors["python_function"].get("artifacts", {}) else "python"


def _signature(info: Model) -> dict[str, tuple[str, ...]]:
    signature = info.signature
    if signature is None:
        return {}
    parts = {"inputs": signature.inputs, "outputs": signature.outputs, "params": signature.params}
    return {name: tuple(str(field) for field in part) for name, part in parts.items() if part is not None}


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
