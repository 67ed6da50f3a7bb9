"""What was read of models is kept between processes, and only as long as it is what reading them again would give."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from phi3_ui.store.registry import catalogue, entry_cache
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.mlmodel import find_local_mlmodel
from tests.store.registry.test_catalogue import DECLARED, log_prompt_model, store  # noqa: F401  (a fixture)

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models whose files were read, as they are read."""
    names: list[str] = []
    read = catalogue.load_mlmodel

    def reading(tracking_uri: str, model: Any) -> Any:
        names.append(model.name)
        return read(tracking_uri, model)

    monkeypatch.setattr(catalogue, "load_mlmodel", reading)
    return names


def test_the_next_run_reads_only_what_is_new(store: str, tmp_path: Path, reads: list[str]) -> None:  # noqa: F811
    log_prompt_model(store, "undeclared", {})
    first = log_prompt_model(store, "first", DECLARED)
    listed = Catalogue(store, tmp_path / "kept").list_models()
    assert sorted(reads) == ["first", "undeclared"]
    assert Catalogue(store, tmp_path / "kept").list_models() == listed
    assert Catalogue(store, tmp_path / "kept").find(first) == listed[0]
    assert len(reads) == 2
    log_prompt_model(store, "second", DECLARED)
    assert [entry.name for entry in Catalogue(store, tmp_path / "kept").list_models()] == ["second", "first"]
    assert reads[2:] == ["second"]


def test_what_was_kept_is_read_again_once_the_files_or_the_code_are_others(
    store: str,  # noqa: F811
    tmp_path: Path,
    reads: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = find_local_mlmodel(MlflowClient(store).get_logged_model(log_prompt_model(store, "one", DECLARED)))
    assert file
    kept = tmp_path / "kept"
    assert Catalogue(store, kept).list_models()[0].context_length == 100
    file.write_text(file.read_text(encoding="utf-8").replace("context_length: 100", "context_length: 2000"), "utf-8")
    assert Catalogue(store, kept).list_models()[0].context_length == 2000
    monkeypatch.setattr(entry_cache, "_FORMAT", entry_cache._FORMAT + 1)
    Catalogue(store, kept).list_models()
    assert len(reads) == 3
    shutil.rmtree(file.parent)
    assert Catalogue(store, kept).list_models() == []


def test_a_broken_file_or_folder_costs_only_time(store: str, tmp_path: Path) -> None:  # noqa: F811
    log_prompt_model(store, "one", DECLARED)
    kept = tmp_path / "kept"
    assert len(Catalogue(store, kept).list_models()) == 1
    (file,) = kept.iterdir()
    for broken in ("", "[]", '["", {}]', "{"):
        file.write_text(broken, encoding="utf-8")
        assert len(Catalogue(store, kept).list_models()) == 1
    assert len(Catalogue(store, tmp_path / "no" / "such").list_models()) == 1
