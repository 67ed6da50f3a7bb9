"""The registry over a real store: versions, aliases, removal, and one sentence for each refusal."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from phi3_ui.errors import UserError
from phi3_ui.paths import ROOT
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.versions import Registry
from tests.support.build_cache import create_store

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return create_store(tmp_path, "models")


@pytest.fixture
def log(uri: str) -> Callable[[str], str]:
    """Logs a small chat model of this name; its id."""

    def log(name: str) -> str:
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("models")
        code = ROOT / "tests" / "support" / "echo_model.py"
        metadata = {"contract": "prompt", "chat_template": "{{ messages[-1].content }}", "license": "mit"}
        logged = mlflow.pyfunc.log_model(name=name, python_model=str(code), metadata=metadata, pip_requirements=[])
        return str(logged.model_id)

    return log


def test_the_first_version_is_champion_and_the_next_challenger(uri: str, log: Callable[[str], str]) -> None:
    registry = Registry(uri)
    first, second = log("chatty"), log("chatty")

    assert registry.register_model(first).aliases == ("champion",)
    assert registry.register_model(second).aliases == ("challenger",)

    versions = [version for model in (first, second) for version in Catalogue(uri).load_card(model).versions]
    assert [(v.name, v.version, v.aliases) for v in versions] == [
        ("chatty", "1", ("champion",)),
        ("chatty", "2", ("challenger",)),
    ]


def test_a_model_is_registered_once_under_each_name(uri: str, log: Callable[[str], str]) -> None:
    registry, model_id = Registry(uri), log("chatty")

    once = registry.register_model(model_id)
    assert registry.register_model(model_id) == once
    assert registry.register_model(model_id, "other").name == "other"
    assert registry.register_model(model_id, "other").version == "1"


@pytest.mark.parametrize("name", ["a/b", "a:b"])
def test_a_name_that_mlflow_does_not_take_is_one_sentence(uri: str, log: Callable[[str], str], name: str) -> None:
    with pytest.raises(UserError, match="is not a valid name for a registered model"):
        Registry(uri).register_model(log("chatty"), name)


def test_promoting_moves_the_alias(uri: str, log: Callable[[str], str]) -> None:
    registry = Registry(uri)
    registry.register_model(log("chatty"))
    version = registry.register_model(log("chatty"))
    assert registry.get_alias_version("chatty", "champion") == "1"

    registry.promote("chatty", version.version, "champion")

    assert registry.get_alias_version("chatty", "champion") == "2"
    registry.remove_alias("chatty", "champion")
    assert registry.get_alias_version("chatty", "champion") is None
    registry.remove_alias("chatty", "champion")


def test_what_is_not_there_is_one_sentence(uri: str, log: Callable[[str], str]) -> None:
    registry = Registry(uri)
    registry.register_model(log("chatty"))

    for wrong in (
        lambda: registry.promote("chatty", "7", "champion"),
        lambda: registry.promote("none", "1", "champion"),
    ):
        with pytest.raises(UserError, match="no longer has the version or alias"):
            wrong()
    with pytest.raises(UserError, match="no longer has the version or alias"):
        registry.remove_alias("none", "champion")
    for absent in (registry.register_model, registry.delete_model):
        with pytest.raises(UserError, match="no longer in the tracking store"):
            absent("m-none")
    assert registry.get_alias_version("none", "champion") is None


@pytest.mark.parametrize("alias", ["latest", "v1", "so so", ""])
def test_an_alias_that_mlflow_does_not_take_is_one_sentence(uri: str, log: Callable[[str], str], alias: str) -> None:
    registry = Registry(uri)
    version = registry.register_model(log("chatty"))

    with pytest.raises(UserError, match="is not a valid alias"):
        registry.promote(version.name, version.version, alias)


def test_removing_leaves_nothing_of_the_model_and_all_of_the_others(
    uri: str, tmp_path: Path, log: Callable[[str], str]
) -> None:
    registry, kept, removed = Registry(uri), log("chatty"), log("chatty")
    for model_id in (kept, removed):
        registry.register_model(model_id)
    registry.register_model(removed, "other")

    versions = registry.delete_model(removed)

    assert sorted((version.name, version.version) for version in versions) == [("chatty", "2"), ("other", "1")]
    assert [path.name for path in (tmp_path / "artifacts" / "models").iterdir() if any(path.rglob("MLmodel"))] == [kept]
    catalogue = Catalogue(uri)
    assert [entry.model_id for entry in catalogue.list_models()] == [kept]
    assert [version.version for version in catalogue.load_card(kept).versions] == ["1"]
    with pytest.raises(UserError, match="no longer in the tracking store"):
        registry.delete_model(removed)


def test_a_removal_that_was_cut_short_is_completed(uri: str, tmp_path: Path, log: Callable[[str], str]) -> None:
    registry, model_id = Registry(uri), log("chatty")
    version = registry.register_model(model_id)
    MlflowClient(uri).delete_model_version(version.name, version.version)
    for file in (tmp_path / "artifacts").rglob("*.py"):
        file.unlink()

    assert registry.delete_model(model_id) == []
    with pytest.raises(UserError, match="no longer in the tracking store"):
        Catalogue(uri).find(model_id)


def test_a_store_that_may_only_be_read_is_one_sentence(
    uri: str, tmp_path: Path, log: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow takes such a URI for a path, and makes its folders here
    model_id = log("chatty")
    version = Registry(uri).register_model(model_id)
    registry = Registry(f"sqlite:///file:{tmp_path / 'mlflow.db'}?mode=ro&uri=true")

    with pytest.raises(UserError, match="is read-only"):
        registry.promote(version.name, version.version, "mine")
    with pytest.raises(UserError, match="is read-only"):
        registry.delete_model(model_id)
    assert any((tmp_path / "artifacts").rglob("MLmodel")), "nothing was removed"


def test_a_store_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match="does not answer"):
        Registry("http://127.0.0.1:9").promote("chatty", "1", "champion")
