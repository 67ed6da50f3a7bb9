"""Prompt sets in the store: MLflow evaluation datasets with a snapshot of every version.

A dataset holds the current records and can also be edited in MLflow's UI. MLflow does not keep its earlier states, so each version
is also written as an artifact `versions/DIGEST.jsonl` of one run, and listed in the dataset's tags with its number and the digest
of its content. A version never changes. Records that were edited elsewhere become a new version when the set is next loaded.
"""

import json
import math
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import DatasetRecord, EvaluationDataset
from mlflow.exceptions import MlflowException
from mlflow.tracing.client import TracingClient

from phi3_ui.errors import UserError
from phi3_ui.evaluation.prompt_set import (
    PromptRecord,
    PromptSet,
    clean_expectations,
    merge_duplicates,
    parse_messages,
    write_records,
)
from phi3_ui.evaluation.questions import read_records
from phi3_ui.store.conversations.location import ChatLocation
from phi3_ui.store.errors import is_missing, translate_store_errors
from phi3_ui.store.query import paginate

MAX_RECORDS = 10_000
MAX_NAME = 100  # characters

_VERSION_TAG = "phi3_ui.version."
"""Followed by a version's number; its value is "DIGEST SECONDS_SINCE_1970 RECORDS"."""
_VERSION = re.compile(rf"{re.escape(_VERSION_TAG)}(\d{{1,9}}) ([0-9a-f]+) (\d{{1,10}}(?:\.\d+)?) (\d{{1,9}})", re.ASCII)
_RUN_TAG = "phi3_ui.versions_run"
_SET_TAG = "phi3_ui.prompt_set"  # of that run
_POSITION_TAG = "phi3_ui.position"  # of a record: MLflow does not keep the order of records that were added together
_PAGE_SIZE = 50


@dataclass(frozen=True)
class PromptSetVersion:
    """One version, without its records."""

    number: int
    digest: str
    created_at: float
    """Seconds since 1970, UTC."""
    records: int


@dataclass(frozen=True)
class PromptSetSummary:
    """A prompt set in the store, without its records."""

    id: str
    """The id of MLflow's evaluation dataset."""
    name: str
    versions: tuple[PromptSetVersion, ...]
    """Newest first."""


class PromptSets:
    """The prompt sets of one store. Thread-safe. Methods raise UserError as translate_store_errors does, and as documented."""

    def __init__(self, locate: Callable[[], ChatLocation]) -> None:
        """Open the prompt sets. `locate` is as for the recorder: the sets are stored where the chats are."""
        self._locate = locate
        self._lock = threading.Lock()  # held while a set is changed

    def list_sets(self) -> list[PromptSetSummary]:
        """Return all prompt sets, most recently changed first."""
        with self._connect() as (client, location):
            found = list(self._iterate(client, location))
        return [_summarize(one) for one in sorted(found, key=lambda one: one.last_update_time, reverse=True)]

    def create(self, name: str, records: Iterable[PromptRecord] = ()) -> PromptSet:
        """Create a set with its first version. Raises UserError: bad_prompt_set_name, prompt_set_exists, prompt_set_too_large."""
        name = " ".join(name.split())
        if not name or len(name) > MAX_NAME or "/" in name or not name.isprintable():
            raise UserError("bad_prompt_set_name", name=name[:MAX_NAME], count=MAX_NAME)
        merged = _require_size(merge_duplicates(records))
        with self._lock, self._connect() as (client, location):
            if any(one.name == name for one in self._iterate(client, location)):
                raise UserError("prompt_set_exists", name=name)
            run_id = client.create_run(location.experiment_id, run_name=f"prompt set {name}").info.run_id
            dataset = client.create_dataset(name, experiment_id=location.experiment_id, tags={_RUN_TAG: run_id})
            client.set_tag(run_id, _SET_TAG, dataset.dataset_id)
            client.update_run(run_id, "FINISHED")  # set_terminated would print the URL of a run on a server
            self._add(location, dataset.dataset_id, merged, 0)
            return self._snapshot(client, location, dataset.dataset_id)

    def load(self, name: str, version: int | None = None) -> PromptSet:
        """Load a set by its name, `NAME/VERSION` or id; by default its newest version, which equals the current MLflow dataset.

        Raises:
            UserError: no_such_prompt_set, no_such_prompt_set_version.
        """
        base, slash, number = name.rpartition("/")
        if slash and version is None and number.isdecimal():
            name, version = base, int(number)
        with self._lock, self._connect() as (client, location):
            dataset = self._find(client, location, name)
            if version is None:
                return self._snapshot(client, location, dataset.dataset_id)
            return _read_version(client, dataset, version)

    def add_records(self, set_id: str, records: Iterable[PromptRecord]) -> PromptSet:
        """Add requests as a new version. Those already in the set only get the new expectations. Raises UserError: prompt_set_too_large."""
        with self._lock, self._connect() as (client, location):
            dataset = self._find(client, location, set_id)
            known = _load_records(location, dataset.dataset_id)
            merged = merge_duplicates(records)
            _require_size(merge_duplicates([*(record for _, record in known), *merged]))
            keys = {record.key for _, record in known}
            repeated = [
                {"inputs": record.inputs, "expectations": dict(record.expectations)}
                for record in merged
                if record.key in keys and record.expectations
            ]
            _upsert(location, dataset.dataset_id, repeated)
            new = [record for record in merged if record.key not in keys]
            self._add(location, dataset.dataset_id, new, _get_next_position(location, dataset.dataset_id))
            return self._snapshot(client, location, dataset.dataset_id)

    def add_file(self, set_id: str, file: Path, name: str | None = None) -> PromptSet:
        """Add the requests of a .txt, .csv or .jsonl file, called `name` in errors. Raises UserError as read_records and `add_records` do."""
        return self.add_records(set_id, read_records(file, name=name))

    def edit_expectations(self, set_id: str, key: str, expectations: Mapping[str, Any]) -> PromptSet:
        """Replace the expectations of one request, given by its record's key, as a new version. Raises UserError: no_such_record."""
        with self._lock, self._connect() as (client, location):
            dataset = self._find(client, location, set_id)
            record = _get_record(_load_records(location, dataset.dataset_id), key)[1]
            # MLflow merges expectations, so those to be removed are set to None.
            replaced = dict.fromkeys(record.expectations) | clean_expectations(expectations)
            _upsert(location, dataset.dataset_id, [{"inputs": record.inputs, "expectations": replaced}])
            return self._snapshot(client, location, dataset.dataset_id)

    def remove_records(self, set_id: str, keys: Iterable[str]) -> PromptSet:
        """Remove requests, given by their records' keys, as a new version. Raises UserError: no_such_record."""
        with self._lock, self._connect() as (client, location):
            dataset = self._find(client, location, set_id)
            known = _load_records(location, dataset.dataset_id)
            ids = [_get_record(known, key)[0] for key in keys]
            TracingClient(location.tracking_uri).store.delete_dataset_records(dataset.dataset_id, ids)
            return self._snapshot(client, location, dataset.dataset_id)

    def list_versions(self, set_id: str) -> tuple[PromptSetVersion, ...]:
        """Return all versions of a set, newest first. Raises UserError: no_such_prompt_set."""
        with self._connect() as (client, location):
            return _parse_versions(self._find(client, location, set_id))

    @contextmanager
    def _connect(self) -> Iterator[tuple[MlflowClient, ChatLocation]]:
        location = self._locate()
        with translate_store_errors(location.tracking_uri):
            yield MlflowClient(location.tracking_uri), location

    @staticmethod
    def _iterate(client: MlflowClient, location: ChatLocation) -> Iterator[EvaluationDataset]:
        found = paginate(client.search_datasets, experiment_ids=[location.experiment_id], max_results=_PAGE_SIZE)
        # Datasets of other programs may contain anything.
        return (one for one in found if _RUN_TAG in (one.tags or {}))

    def _find(self, client: MlflowClient, location: ChatLocation, name: str) -> EvaluationDataset:
        for one in self._iterate(client, location):
            if name in (one.name, one.dataset_id):
                return one
        raise UserError("no_such_prompt_set", name=name)

    @staticmethod
    def _add(location: ChatLocation, set_id: str, records: list[PromptRecord], start: int) -> None:
        _upsert(
            location,
            set_id,
            [
                {
                    "inputs": record.inputs,
                    "expectations": dict(record.expectations),
                    "tags": {_POSITION_TAG: str(position)},
                    "source": _describe_source(record),
                }
                for position, record in enumerate(records, start)
            ],
        )

    @staticmethod
    def _snapshot(client: MlflowClient, location: ChatLocation, set_id: str) -> PromptSet:
        """Return the current content of the dataset as its newest version, creating that version if the content has changed."""
        dataset = client.get_dataset(set_id)
        records = tuple(record for _, record in _load_records(location, set_id))
        current = PromptSet(set_id, dataset.name, 0, records)
        versions = _parse_versions(dataset)
        if versions and versions[0].digest == current.digest:
            return replace(current, version=versions[0].number)
        number = versions[0].number + 1 if versions else 1
        client.log_text(dataset.tags[_RUN_TAG], write_records(records), _get_artifact_path(current.digest))
        value = f"{current.digest} {time.time():.3f} {len(records)}"
        client.set_dataset_tags(set_id, {f"{_VERSION_TAG}{number}": value})
        return replace(current, version=number)


def _describe_source(record: PromptRecord) -> dict[str, Any]:
    if record.source_trace_id:
        return {"source_type": "TRACE", "source_data": {"trace_id": record.source_trace_id}}
    return {"source_type": "HUMAN", "source_data": {}}


def _summarize(dataset: EvaluationDataset) -> PromptSetSummary:
    return PromptSetSummary(dataset.dataset_id, dataset.name, _parse_versions(dataset))


def _parse_versions(dataset: EvaluationDataset) -> tuple[PromptSetVersion, ...]:
    versions = []
    for key, value in (dataset.tags or {}).items():
        if found := _VERSION.fullmatch(f"{key} {value}"):  # other programs may write any tag
            number, digest, created_at, records = found.groups()
            versions.append(PromptSetVersion(int(number), digest, float(created_at), int(records)))
    return tuple(sorted(versions, key=lambda version: version.number, reverse=True))


def _read_version(client: MlflowClient, dataset: EvaluationDataset, number: int) -> PromptSet:
    found = next((version for version in _parse_versions(dataset) if version.number == number), None)
    missing = UserError("no_such_prompt_set_version", name=dataset.name, version=number)
    if found is None:
        raise missing
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = Path(client.download_artifacts(dataset.tags[_RUN_TAG], _get_artifact_path(found.digest), folder))
        except (MlflowException, OSError) as error:
            if isinstance(error, MlflowException) and not is_missing(error):
                raise
            raise missing from error
        records = tuple(read_records(file)) if found.records else ()
    loaded = PromptSet(dataset.dataset_id, dataset.name, number, records)
    if loaded.digest != found.digest:
        raise UserError("prompt_set_damaged", name=dataset.name, version=number)
    return loaded


def _get_artifact_path(digest: str) -> str:
    return f"versions/{digest}.jsonl"


def _load_records(location: ChatLocation, set_id: str) -> list[tuple[str, PromptRecord]]:
    """Return the current records with their ids in MLflow, in order. Records that could not be sent to a model are skipped."""
    records = list[tuple[str, PromptRecord]]()
    for stored in sorted(_load_stored(location, set_id), key=_get_position):
        messages = parse_messages((stored.inputs or {}).get("messages"))
        if messages and messages[-1].role == "user":
            source = (stored.source.source_data or {}).get("trace_id", "") if stored.source else ""
            record = PromptRecord(messages, clean_expectations(stored.expectations or {}), source)
            records.append((str(stored.dataset_record_id), record))
    return records


def _load_stored(location: ChatLocation, set_id: str) -> list[DatasetRecord]:
    found: list[DatasetRecord]
    found, _ = TracingClient(location.tracking_uri).store._load_dataset_records(set_id, max_results=None)
    return found


def _get_position(stored: DatasetRecord) -> float:
    """Return the position of a record in the set; records that were added elsewhere come last."""
    position = (stored.tags or {}).get(_POSITION_TAG)
    return float(position) if isinstance(position, str) and position.isdecimal() else math.inf


def _get_next_position(location: ChatLocation, set_id: str) -> int:
    positions = map(_get_position, _load_stored(location, set_id))
    return int(max((one for one in positions if one < math.inf), default=-1)) + 1


def _get_record(records: list[tuple[str, PromptRecord]], key: str) -> tuple[str, PromptRecord]:
    for record_id, record in records:
        if record.key == key:
            return record_id, record
    raise UserError("no_such_record")


def _upsert(location: ChatLocation, set_id: str, records: list[dict[str, Any]]) -> None:
    """Merge records like `EvaluationDataset.merge_records`, which only works with the process's default tracking store."""
    if records:
        json.dumps(records).encode()  # raises for content that no store can hold, before anything is written
        TracingClient(location.tracking_uri).store.upsert_dataset_records(set_id, records)


def _require_size(records: list[PromptRecord]) -> list[PromptRecord]:
    if len(records) > MAX_RECORDS:
        raise UserError("prompt_set_too_large", count=MAX_RECORDS)
    return records
