"""Parsed models are cached between processes, for as long as parsing them again would give the same entry."""

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.models import Model

from phi3_ui.store.registry import catalogue, entry_cache, mlmodel
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.entry_cache import EntryCache
from phi3_ui.store.registry.records import StoredModel, from_logged_model
from tests.store.registry.prompt_models import DECLARED, log_prompt_model

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")

_URI = "http://store.example"
_TIMEOUT = 30.0


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models whose MLmodel file was parsed, in order."""
    names: list[str] = []

    def load_mlmodel(tracking_uri: str, model: StoredModel) -> Model:
        names.append(model.name)
        return mlmodel.load_mlmodel(tracking_uri, model)

    monkeypatch.setattr(catalogue, "load_mlmodel", load_mlmodel)
    return names


def test_the_next_process_parses_only_new_models(uri: str, tmp_path: Path, parsed: list[str]) -> None:
    log_prompt_model(uri, "undeclared", {})
    first = log_prompt_model(uri, "first", DECLARED)
    cache = tmp_path / "cache"
    listed = Catalogue(uri, cache).list_models()
    assert sorted(parsed) == ["first", "undeclared"]
    assert Catalogue(uri, cache).list_models() == listed
    assert Catalogue(uri, cache).find(first) == listed[0]
    assert len(parsed) == 2
    log_prompt_model(uri, "second", DECLARED)
    assert [entry.name for entry in Catalogue(uri, cache).list_models()] == ["second", "first"]
    assert parsed[2:] == ["second"]


def test_an_entry_is_parsed_again_after_its_file_or_the_format_changed(
    uri: str, tmp_path: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = from_logged_model(MlflowClient(uri).get_logged_model(log_prompt_model(uri, "model", DECLARED)))
    file = mlmodel.find_local_mlmodel(model)
    assert file
    cache = tmp_path / "cache"
    assert Catalogue(uri, cache).list_models()[0].context_length == 100
    file.write_text(file.read_text(encoding="utf-8").replace("context_length: 100", "context_length: 2000"), "utf-8")
    assert Catalogue(uri, cache).list_models()[0].context_length == 2000
    monkeypatch.setattr(entry_cache, "_FORMAT", entry_cache._FORMAT + 1)
    Catalogue(uri, cache).list_models()
    assert len(parsed) == 3
    shutil.rmtree(file.parent)
    assert Catalogue(uri, cache).list_models() == []


def test_a_damaged_cache_file_or_missing_folder_is_ignored(uri: str, tmp_path: Path) -> None:
    log_prompt_model(uri, "model", DECLARED)
    cache = tmp_path / "cache"
    assert len(Catalogue(uri, cache).list_models()) == 1
    (file,) = cache.iterdir()
    for damaged in ("", "[]", '["", {}]', "{"):
        file.write_text(damaged, encoding="utf-8")
        assert len(Catalogue(uri, cache).list_models()) == 1
    assert len(Catalogue(uri, tmp_path / "missing" / "folder").list_models()) == 1


def _model(model_id: str) -> StoredModel:
    """Return a model whose files the store serves."""
    return StoredModel(model_id, model_id, f"mlflow-artifacts:/models/{model_id}", 0, None, {})


def _entry(model_id: str) -> ModelEntry:
    created = datetime(2026, 3, 10, tzinfo=UTC)
    return ModelEntry(
        name=model_id,
        model_id=model_id,
        uri=f"models:/{model_id}",
        contract="prompt",
        flavor="pyfunc",
        engine="python",
        created=created,
        size_bytes=1,
        run_id=None,
        preset=None,
        tracking_uri=_URI,
    )


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_two_threads_get_the_same_entry_of_the_file(
    tmp_path: Path, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = EntryCache(_URI, tmp_path)
    saved.put(_model("m-1"), _entry("m-1"))
    saved.save(["m-1"])
    checking, may_continue = threading.Event(), threading.Event()

    file_state = entry_cache._file_state

    def slow_file_state(model: StoredModel) -> list[str | int]:
        checking.set()
        assert may_continue.wait(_TIMEOUT)
        return file_state(model)

    monkeypatch.setattr(entry_cache, "_file_state", slow_file_state)
    cache = EntryCache(_URI, tmp_path)
    first = threads.submit(cache.get, _model("m-1"))
    assert checking.wait(_TIMEOUT)
    second = threads.submit(cache.get, _model("m-1"))
    with pytest.raises(TimeoutError):
        second.result(0.2)  # it must not miss the entry that the first thread is checking
    may_continue.set()

    for cached in (first.result(_TIMEOUT), second.result(_TIMEOUT)):
        assert cached
        assert cached.entry == _entry("m-1")


def test_an_entry_put_during_a_save_is_written_by_the_next(
    tmp_path: Path, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = EntryCache(_URI, tmp_path)
    cache.put(_model("m-1"), _entry("m-1"))
    writing, may_continue = threading.Event(), threading.Event()
    version = entry_cache._version

    def slow_version() -> list[int | str]:
        writing.set()
        assert may_continue.wait(_TIMEOUT)
        return version()

    monkeypatch.setattr(entry_cache, "_version", slow_version)
    saving = threads.submit(cache.save, ["m-1", "m-2"])
    assert writing.wait(_TIMEOUT)
    putting = threads.submit(cache.put, _model("m-2"), _entry("m-2"))
    may_continue.set()
    saving.result(_TIMEOUT)
    putting.result(_TIMEOUT)
    cache.save(["m-1", "m-2"])

    restarted = EntryCache(_URI, tmp_path)
    assert restarted.get(_model("m-1"))
    assert restarted.get(_model("m-2"))


def test_no_entry_is_lost_while_threads_get_put_and_save(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    cache = EntryCache(_URI, tmp_path)
    model_ids = [f"m-{number}" for number in range(200)]

    def parse(model_id: str) -> ModelEntry | None:
        cached = cache.get(_model(model_id)) or cache.put(_model(model_id), _entry(model_id))
        cache.save(model_ids)
        return cached.entry

    expected = [_entry(model_id) for model_id in model_ids]
    assert list(threads.map(parse, model_ids)) == expected

    restarted = EntryCache(_URI, tmp_path)
    assert [cached and cached.entry for cached in map(restarted.get, map(_model, model_ids))] == expected
    assert [file.suffix for file in tmp_path.iterdir()] == [".json"]
