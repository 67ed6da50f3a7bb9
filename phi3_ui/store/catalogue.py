"""What the store holds: the chat-capable logged models, and what is known of each."""

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from phi3_ui.errors import UserError

ONNX_ARTIFACT = "phi3-mini-onnx"  # the artifact key of models/phi3_onnx.py, whose import would bring the engine in

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelEntry:
    """One chat-capable logged model. `contract` is `chat` or `prompt`; `created` is in UTC.

    `engine` is what computes: `transformers`, `onnxruntime-genai`, or `python` for any other wrapper. `run_id` is None for a model logged outside a run, `preset` for one that no preset made.
    """

    name: str
    model_id: str
    uri: str
    contract: str
    flavor: str
    engine: str
    created: datetime
    size_bytes: int | None
    run_id: str | None
    preset: str | None
    tracking_uri: str


@dataclass(frozen=True)
class RunCard:
    """The run that logged a model; times in UTC."""

    run_id: str
    name: str
    experiment: str
    status: str
    started: datetime
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


@dataclass(frozen=True)
class VersionCard:
    """A registered version of the model; `aliases` are those that point at it."""

    name: str
    version: str
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class ModelCard:
    """All that the page shows of a model. `signature` maps inputs, outputs and params to one line a field."""

    entry: ModelEntry
    title: str
    license: str
    context_length: int | None
    signature: dict[str, tuple[str, ...]]
    run: RunCard | None
    versions: tuple[VersionCard, ...] = field(default=())


class Catalogue:
    """Read-only views of one tracking store. All methods raise UserError("store_unreachable") when it does not answer."""

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        self._client: MlflowClient | None = None
        self._lock = threading.Lock()
        # A logged model's MLmodel never changes once it is READY: what was read of it stays true.
        self._entries: dict[str, ModelEntry | None] = {}

    def models(self) -> list[ModelEntry]:
        """The chat-capable models, newest first."""
        with self._answering():
            entries = [self._entry(model) for model in self._ready_models()]
            return [entry for entry in entries if entry is not None]

    def find(self, model_id: str | None) -> ModelEntry:
        """The model with this id. UserError: no_model without an id, model_gone if it is not there or no chat model."""
        if not model_id:
            raise UserError("no_model")
        with self._answering():
            try:
                model = self._mlflow.get_logged_model(model_id)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    raise UserError("model_gone") from error
                raise
            entry = self._entry(model) if model.status == LoggedModelStatus.READY else None
        if entry is None:
            raise UserError("model_gone")
        return entry

    def card(self, model_id: str) -> ModelCard:
        """Everything known of one model. UserError: model_gone."""
        entry = self.find(model_id)
        with self._answering():
            info = Model.load(entry.uri)
            declared: dict[str, Any] = info.metadata or {}
            return ModelCard(
                entry=entry,
                title=declared.get("title", ""),
                license=declared.get("license", ""),
                context_length=declared.get("context_length"),
                signature=_signature(info),
                run=self._run(entry.run_id) if entry.run_id else None,
                versions=tuple(self._versions(model_id)),
            )

    @property
    def _mlflow(self) -> MlflowClient:
        with self._lock:
            if self._client is None:
                # A models:/ URI is resolved by the process's own tracking URI.
                mlflow.set_tracking_uri(self.tracking_uri)
                self._client = MlflowClient(self.tracking_uri)
            return self._client

    def _answering(self) -> "_Answering":
        return _Answering(self.tracking_uri)

    def _ready_models(self) -> Iterator[LoggedModel]:
        experiments = [experiment.experiment_id for experiment in _pages(self._mlflow.search_experiments)]
        if not experiments:
            return
        newest_first = [{"field_name": "creation_timestamp", "ascending": False}]
        for model in _pages(self._mlflow.search_logged_models, experiment_ids=experiments, order_by=newest_first):
            # SQLite stores find nothing for a filter on status.
            if model.status == LoggedModelStatus.READY:
                yield model

    def _entry(self, model: LoggedModel) -> ModelEntry | None:
        if model.model_id not in self._entries:
            try:
                self._entries[model.model_id] = self._read_entry(model)
            except (MlflowException, OSError) as error:
                # Its files are gone or out of reach: it cannot be chatted with now, and is looked at again next time.
                logger.warning("The logged model %s (%s) cannot be read: %s", model.name, model.model_id, error)
                return None
        return self._entries[model.model_id]

    def _read_entry(self, model: LoggedModel) -> ModelEntry | None:
        info = Model.load(f"models:/{model.model_id}")
        contract = _contract(info)
        if contract is None:
            return None
        return ModelEntry(
            name=model.name,
            model_id=model.model_id,
            uri=f"models:/{model.model_id}",
            contract=contract,
            flavor="transformers" if "transformers" in info.flavors else "pyfunc",
            engine=_engine(info),
            created=_utc(model.creation_timestamp),
            size_bytes=info.model_size_bytes,
            run_id=model.source_run_id,
            preset=model.tags.get("preset") or None,
            tracking_uri=self.tracking_uri,
        )

    def _run(self, run_id: str) -> RunCard | None:
        try:
            run = self._mlflow.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return RunCard(
            run_id=run_id,
            name=run.info.run_name or run_id,
            experiment=self._mlflow.get_experiment(run.info.experiment_id).name,
            status=run.info.status,
            started=_utc(run.info.start_time),
            params=dict(run.data.params),
            metrics=dict(run.data.metrics),
            tags={name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")},
        )

    def _versions(self, model_id: str) -> Iterator[VersionCard]:
        # The registry cannot be searched by model id; the model's own tag names the versions made of it.
        tag = self._mlflow.get_logged_model(model_id).tags.get("mlflow.modelVersions", "[]")
        for made in json.loads(tag):
            name, version = made["name"], str(made["version"])
            try:
                aliases = self._mlflow.get_registered_model(name).aliases
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    continue
                raise
            yield VersionCard(name, version, tuple(a for a, at in sorted(aliases.items()) if str(at) == version))


class _Answering:
    """Turns what the store's client raises into one sentence for a person."""

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, (MlflowException, OSError)):
            detail = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise UserError("store_unreachable", uri=self._uri, detail=detail) from error


def _contract(info: Model) -> str | None:
    """The contract a model declares: ours by name, or MLflow's own chat task of the transformers flavour; else None."""
    declared: dict[str, Any] = info.metadata or {}
    if declared.get("contract") == "prompt":
        return "prompt" if "chat_template" in declared else None
    if declared.get("contract") == "chat" or declared.get("task") == "llm/v1/chat":
        return "chat" if "transformers" in info.flavors else None
    return None


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


def _pages(search: Any, **arguments: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(**arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
