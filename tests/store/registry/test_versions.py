"""The registry of a real store: versions, aliases, deletion, and a clear error for each failure."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from phi3_ui.errors import UserError
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.versions import Registry
from tests.store.registry.prompt_models import DECLARED, log_prompt_model

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")


def test_the_first_version_is_champion_and_the_next_challenger(uri: str) -> None:
    registry = Registry(uri)
    first, second = log_prompt_model(uri, "chatty", DECLARED), log_prompt_model(uri, "chatty", DECLARED)

    assert registry.register_model(first).aliases == ("champion",)
    assert registry.register_model(second).aliases == ("challenger",)

    versions = [version for model_id in (first, second) for version in Catalogue(uri).load_card(model_id).versions]
    assert [(version.name, version.version, version.aliases) for version in versions] == [
        ("chatty", "1", ("champion",)),
        ("chatty", "2", ("challenger",)),
    ]


def test_a_model_is_registered_once_under_each_name(uri: str) -> None:
    registry, model_id = Registry(uri), log_prompt_model(uri, "chatty", DECLARED)

    version = registry.register_model(model_id)
    assert registry.register_model(model_id) == version
    assert registry.register_model(model_id, "other").name == "other"
    assert registry.register_model(model_id, "other").version == "1"


@pytest.mark.parametrize("name", ["a/b", "a:b"])
def test_an_invalid_name_is_a_user_error(uri: str, name: str) -> None:
    with pytest.raises(UserError, match="is not a valid name for a registered model"):
        Registry(uri).register_model(log_prompt_model(uri, "chatty", DECLARED), name)


def test_promoting_moves_the_alias(uri: str) -> None:
    registry = Registry(uri)
    registry.register_model(log_prompt_model(uri, "chatty", DECLARED))
    version = registry.register_model(log_prompt_model(uri, "chatty", DECLARED))
    assert registry.get_alias_version("chatty", "champion") == "1"

    registry.promote("chatty", version.version, "champion")

    assert registry.get_alias_version("chatty", "champion") == "2"
    registry.remove_alias("chatty", "champion")
    assert registry.get_alias_version("chatty", "champion") is None
    registry.remove_alias("chatty", "champion")


def test_an_unknown_version_alias_or_model_is_a_user_error(uri: str) -> None:
    registry = Registry(uri)
    registry.register_model(log_prompt_model(uri, "chatty", DECLARED))

    for name, version in (("chatty", "7"), ("none", "1")):
        with pytest.raises(UserError, match="no longer has the version or alias"):
            registry.promote(name, version, "champion")
    with pytest.raises(UserError, match="no longer has the version or alias"):
        registry.remove_alias("none", "champion")
    with pytest.raises(UserError, match="no longer in the tracking store"):
        registry.register_model("m-none")
    with pytest.raises(UserError, match="no longer in the tracking store"):
        registry.delete_model("m-none")
    assert registry.get_alias_version("none", "champion") is None


@pytest.mark.parametrize("alias", ["latest", "v1", "so so", ""])
def test_an_invalid_alias_is_a_user_error(uri: str, alias: str) -> None:
    registry = Registry(uri)
    version = registry.register_model(log_prompt_model(uri, "chatty", DECLARED))

    with pytest.raises(UserError, match="is not a valid alias"):
        registry.promote(version.name, version.version, alias)


def test_a_deletion_removes_a_models_files_and_versions_and_nothing_else(uri: str, tmp_path: Path) -> None:
    registry, kept, deleted = (
        Registry(uri),
        log_prompt_model(uri, "chatty", DECLARED),
        log_prompt_model(uri, "chatty", DECLARED),
    )
    for model_id in (kept, deleted):
        registry.register_model(model_id)
    registry.register_model(deleted, "other")

    versions = registry.delete_model(deleted)

    assert sorted((version.name, version.version) for version in versions) == [("chatty", "2"), ("other", "1")]
    assert [path.name for path in (tmp_path / "artifacts" / "models").iterdir() if any(path.rglob("MLmodel"))] == [kept]
    catalogue = Catalogue(uri)
    assert [entry.model_id for entry in catalogue.list_models()] == [kept]
    assert [version.version for version in catalogue.load_card(kept).versions] == ["1"]
    with pytest.raises(UserError, match="no longer in the tracking store"):
        registry.delete_model(deleted)


def test_an_interrupted_deletion_can_be_completed(uri: str, tmp_path: Path) -> None:
    registry, model_id = Registry(uri), log_prompt_model(uri, "chatty", DECLARED)
    version = registry.register_model(model_id)
    MlflowClient(uri).delete_model_version(version.name, version.version)
    for file in (tmp_path / "artifacts").rglob("*.py"):
        file.unlink()

    assert registry.delete_model(model_id) == []
    with pytest.raises(UserError, match="no longer in the tracking store"):
        Catalogue(uri).find(model_id)


def test_a_read_only_store_is_a_user_error_and_deletes_no_file(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow mistakes such a URI for a path and creates its folders here
    model_id = log_prompt_model(uri, "chatty", DECLARED)
    version = Registry(uri).register_model(model_id)
    registry = Registry(f"sqlite:///file:{tmp_path / 'mlflow.db'}?mode=ro&uri=true")

    with pytest.raises(UserError, match="is read-only"):
        registry.promote(version.name, version.version, "mine")
    with pytest.raises(UserError, match="is read-only"):
        registry.delete_model(model_id)
    assert any((tmp_path / "artifacts").rglob("MLmodel"))


def test_an_unreachable_store_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match="does not answer"):
        Registry("http://127.0.0.1:9").promote("chatty", "1", "champion")
