"""Models without logged models, in a store of MLflow 3 that was migrated or filled by mlflow-export-import."""

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from phi3_ui.errors import UserError
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.doctor import diagnose
from phi3_ui.store.registry.versions import Registry
from tests.store.registry.prompt_models import DECLARED, log_prompt_model
from tests.support.run_artifacts import log_say_model, register_artifact

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:FutureWarning")


def test_registered_versions_and_run_artifacts_are_listed_beside_logged_models(uri: str, tmp_path: Path) -> None:
    client, saved = MlflowClient(uri), tmp_path / "saved"
    registered, unregistered = (log_say_model(client, saved, name, is_listed=True) for name in ("say", "draft"))
    sources = [f"{registered.info.artifact_uri}/model", f"runs:/{registered.info.run_id}/model"]
    for name, source in zip(("legacy-say", "by-run"), sources, strict=True):
        register_artifact(client, name, source, registered)
        client.set_registered_model_alias(name, "champion", "1")
    client.copy_model_version("models:/legacy-say/1", "copy")
    register_artifact(client, "damaged", f"{registered.info.artifact_uri}/nothing", registered)
    client.register_prompt("a-prompt", "{{question}}")
    logged = log_prompt_model(uri, "logged", DECLARED)
    mlflow.register_model(f"models:/{logged}", "logged")

    catalogue = Catalogue(uri, tmp_path / "cache")
    draft = f"runs:/{unregistered.info.run_id}/model"
    listed = {entry.model_id: (entry.name, entry.uri, entry.run_id) for entry in catalogue.list_models()}
    assert listed == {
        logged: ("logged", f"models:/{logged}", None),
        "copy/1": ("copy", "models:/copy/1", registered.info.run_id),
        "by-run/1": ("by-run", "models:/by-run/1", registered.info.run_id),
        "legacy-say/1": ("legacy-say", "models:/legacy-say/1", registered.info.run_id),
        draft: ("draft", draft, unregistered.info.run_id),
    }
    assert [*catalogue.unreadable_models] == ["damaged/1"]
    versions = {
        model: [(version.name, version.aliases) for version in registered_versions]
        for model, registered_versions in catalogue.list_versions().items()
    }
    assert versions["by-run/1"] == [("by-run", ("champion",))]
    assert versions["legacy-say/1"] == [("legacy-say", ("champion",))]
    for name in ("legacy-say@champion", "models:/legacy-say/1", "legacy-say/latest", "legacy-say/None"):
        assert catalogue.find(name).model_id == "legacy-say/1"
    card = catalogue.load_card("legacy-say@champion")
    assert card.run is not None
    assert (card.run.name, card.experiment_id) == ("say", "")
    assert [version.name for version in card.versions] == ["by-run", "copy", "legacy-say"]
    assert {diagnose(uri, id_).severity for id_ in ("legacy-say/1", draft)} == {"ok"}
    assert Catalogue(uri, tmp_path / "cache").list_models() == catalogue.list_models()


def test_a_runs_model_can_be_registered_tagged_and_removed(uri: str, tmp_path: Path) -> None:
    client = MlflowClient(uri)
    run = log_say_model(client, tmp_path / "saved", "say", is_listed=True)
    model_id, registry = f"runs:/{run.info.run_id}/model", Registry(uri)

    version = registry.register_model(model_id)
    assert (version.name, version.version, version.aliases) == ("say", "1", ("champion",))
    assert registry.register_model(model_id) == registry.register_model("say/1") == version
    assert registry.register_model("say/1", "other").version == "1"
    catalogue = Catalogue(uri)
    assert catalogue.set_template("say/1", "chatml")
    assert catalogue.set_template(model_id, "plain")
    assert (catalogue.find("say/1").template, catalogue.find(model_id).template) == ("chatml", "plain")

    removed = registry.delete_model("say/1")
    assert [(version.name, version.version) for version in removed] == [("other", "1"), ("say", "1")]
    assert catalogue.list_models() == []
    with pytest.raises(UserError, match="no longer in the tracking store"):
        Catalogue(uri).find(model_id)


@pytest.mark.parametrize("tag", ["", "{", "7", "[7]", '[{"artifact_path": 7}]', "null"])
def test_a_damaged_tag_hides_no_other_run(uri: str, tmp_path: Path, tag: str) -> None:
    client = MlflowClient(uri)
    run = log_say_model(client, tmp_path / "saved", "say", is_listed=True)
    damaged = client.create_run(run.info.experiment_id)
    client.set_tag(damaged.info.run_id, "mlflow.log-model.history", tag)
    assert [entry.name for entry in Catalogue(uri).list_models()] == ["say"]
