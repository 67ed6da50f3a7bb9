"""Listing a store of 1,000 logged models with increasing numbers of runs. `python -m bench.store URI FOLDER` lists one store."""

import gc
import json
import sqlite3
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from bench.rows import Bench, Row
from phi3_ui.paths import ROOT
from phi3_ui.store.query import paginate
from phi3_ui.store.registry.catalogue import Catalogue

_MODELS, _RUNS = 1000, (1000, 10_000)
_TABLES = {
    "run_uuid": ("runs", "tags", "params", "metrics", "latest_metrics"),
    "model_id": ("logged_models", "logged_model_tags", "logged_model_params"),
}

Seconds = dict[str, float]


class FilledStore:
    """A SQLite store with one run and one model logged by MLflow; the others are copies of their rows."""

    def __init__(self, folder: Path, metadata: dict[str, Any]) -> None:
        folder.mkdir()
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self._database = folder / "mlflow.db"
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(self.uri)
        try:
            self._model, self._run = self._log(folder, metadata)
        finally:
            mlflow.set_tracking_uri(before)
        self._artifacts = folder / "artifacts" / "models"
        self._runs = [self._run]

    @staticmethod
    def _log(folder: Path, metadata: dict[str, Any]) -> tuple[str, str]:
        experiment = MlflowClient().create_experiment("many", artifact_location=(folder / "artifacts").as_uri())
        with mlflow.start_run(experiment_id=experiment) as run:
            mlflow.log_params({f"param-{number}": number for number in range(10)})
            mlflow.log_metrics({f"metric-{number}": number for number in range(10)})
            info = mlflow.pyfunc.log_model(
                name="many",
                python_model=str(ROOT / "tests" / "support" / "echo_model.py"),
                signature=ModelSignature(
                    Schema([ColSpec(DataType.string, "prompt")]), Schema([ColSpec(DataType.string)])
                ),
                metadata=metadata,
                pip_requirements=[],
            )
        return str(info.model_id), str(run.info.run_id)

    def add_runs(self, until: int) -> None:
        """Add runs until there are `until` of them."""
        new = [{"run_uuid": uuid.uuid4().hex} for _ in range(until - len(self._runs))]
        self._copy("run_uuid", self._run, new)
        self._runs += [one["run_uuid"] for one in new]

    def add_models(self, until: int) -> None:
        """Add models with files, each with its own run, until there are `until` of them."""
        file = self._artifacts / self._model / "artifacts" / "MLmodel"
        pattern, new = file.read_text(encoding="utf-8"), []
        for number in range(1, until):
            model_id = f"m-{uuid.uuid4().hex}"
            folder = self._artifacts / model_id / "artifacts"
            folder.mkdir(parents=True)
            text = pattern.replace(self._model, model_id).replace(self._run, self._runs[number])
            (folder / "MLmodel").write_text(text, encoding="utf-8")
            of_model = {"model_id": model_id, "artifact_location": folder.as_uri()}
            new.append({**of_model, "source_run_id": self._runs[number], "creation_timestamp_ms": number})
        self._copy("model_id", self._model, new)

    def _copy(self, key: str, value: str, changes: list[dict[str, Any]]) -> None:
        """Copy the rows whose `key` is `value` once per item of `changes`, in all tables with this key."""
        connection = sqlite3.connect(self._database)
        connection.row_factory = sqlite3.Row
        with connection:
            for table in _TABLES[key]:
                for row in [dict(row) for row in connection.execute(f"SELECT * FROM {table} WHERE {key} = ?", [value])]:
                    marks = ", ".join("?" * len(row))
                    copies = ([change.get(name, old) for name, old in row.items()] for change in changes)
                    connection.executemany(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", copies)
        connection.close()


def measure_rows(bench: Bench) -> Iterator[Row]:
    entry = bench.entries["prompt"]
    mlflow.set_tracking_uri(entry.tracking_uri)
    metadata = bench.metadata("prompt")
    filled = FilledStore(bench.temporary / "many", {"chat_template": metadata["chat_template"], "special_tokens": []})
    for runs in _RUNS:
        filled.add_runs(runs)
        if runs == _RUNS[0]:
            filled.add_models(_MODELS)
            cache = bench.temporary / "catalogue"
            what = f"first listing of {_MODELS:,} models, empty entry cache"
            yield Row(what, f"{time_listing(filled.uri, cache)['cold']:.2f} s")
        listings = [time_listing(filled.uri, cache) for _ in range(bench.rounds)]
        for which in ("cold", "warm"):
            value, search, opening = (
                statistics.median(one[key] for one in listings) for key in (which, "search", "open")
            )
            detail = f"MLflow's own search {search:.2f} s" + (
                f", its import {opening:.2f} s" if which == "cold" else ""
            )
            what = f"{which} listing of {_MODELS:,} models, with {runs:,} runs in the store"
            yield Row(what, f"{value:.2f} s ({detail})", "≤ 0.3 s", value <= 0.3)


def time_listing(uri: str, cache: Path) -> Seconds:
    """Return the seconds for listing a store in a fresh process, cold and warm; see list_store."""
    command = [sys.executable, "-m", "bench.store", uri, str(cache)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds: Seconds = json.loads(done.stdout.splitlines()[-1])
    return seconds


def list_store(uri: str, cache: Path) -> Seconds:
    """Return the seconds for a cold listing (`open`: for importing MLflow's SQL client and connecting), a warm one, and MLflow's own search.

    Like the app, imports the app's modules and exempts them from garbage collection first.
    """
    gc.disable()
    import phi3_ui.server  # noqa: F401

    gc.freeze()
    gc.enable()
    catalogue, seconds = Catalogue(uri, cache), {}
    started = time.perf_counter()
    client = MlflowClient(uri)
    seconds["open"] = time.perf_counter() - started
    for which in ("cold", "warm"):
        models = catalogue.list_models()
        seconds[which] = time.perf_counter() - started
        assert len(models) == _MODELS, len(models)
        started = time.perf_counter()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert sum(1 for _ in paginate(client.search_logged_models, experiment_ids=experiments)) == _MODELS
    seconds["search"] = time.perf_counter() - started
    return seconds


if __name__ == "__main__":
    print(json.dumps(list_store(sys.argv[1], Path(sys.argv[2]))))
