"""The catalogue over a real store: which models are listed, and all that is known of one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from phi3_ui.errors import UserError
from phi3_ui.paths import ROOT
from phi3_ui.store.registry.catalogue import Catalogue
from tests.conftest import Demo
from tests.support.build_cache import create_store


@pytest.fixture
def store(tmp_path: Path) -> str:
    return create_store(tmp_path, "theirs")


def log_prompt_model(uri: str, name: str, metadata: dict[str, Any], in_run: bool = False) -> str:
    """A model of other code's, which declares what `metadata` says; its id."""
    code = ROOT / "tests" / "support" / "echo_model.py"
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("theirs")
    arguments: dict[str, Any] = {"name": name, "python_model": str(code), "metadata": metadata, "pip_requirements": []}
    if in_run:
        with mlflow.start_run(run_name="a run"):
            mlflow.log_metric("loss", 0.5)
            return str(mlflow.pyfunc.log_model(**arguments).model_id)
    return str(mlflow.pyfunc.log_model(**arguments).model_id)


DECLARED = {"contract": "prompt", "chat_template": "{{ messages[-1].content }}", "context_length": 100}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_only_models_that_declare_a_contract_are_listed_newest_first(store: str) -> None:
    log_prompt_model(store, "undeclared", {})
    first = log_prompt_model(store, "first", DECLARED)
    second = log_prompt_model(store, "second", DECLARED)
    log_prompt_model(store, "no-template", {"contract": "prompt"})
    log_prompt_model(store, "chat-but-no-pipeline", {"contract": "chat"})
    entries = Catalogue(store).list_models()
    assert [entry.model_id for entry in entries] == [second, first]
    assert {entry.engine for entry in entries} == {"python"}
    assert {entry.preset for entry in entries} == {None}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_card_shows_run_versions_and_aliases(store: str) -> None:
    model_id = log_prompt_model(store, "registered", DECLARED, in_run=True)
    for _ in range(2):
        mlflow.register_model(f"models:/{model_id}", "their-chat")
    MlflowClient(store).set_registered_model_alias("their-chat", "champion", "2")
    card = Catalogue(store).load_card(model_id)
    assert card.context_length == 100
    assert card.run is not None
    assert (card.run.name, card.run.experiment, card.run.metrics) == ("a run", "theirs", {"loss": 0.5})
    assert card.run.experiment_id == card.experiment_id != ""
    assert sorted((v.name, v.version, v.aliases) for v in card.versions) == [
        ("their-chat", "1", ()),
        ("their-chat", "2", ("champion",)),
    ]


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_deleted_model_is_gone_and_not_a_trace(store: str) -> None:
    catalogue = Catalogue(store)
    model_id = log_prompt_model(store, "soon-gone", DECLARED)
    assert catalogue.find(model_id).name == "soon-gone"
    MlflowClient(store).delete_logged_model(model_id)
    assert catalogue.list_models() == []
    with pytest.raises(UserError, match="no longer in the tracking store"):
        catalogue.find(model_id)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("content", ["", "- a list", "{", "flavors: 7", "\0"])
def test_a_damaged_model_hides_no_other(store: str, tmp_path: Path, content: str) -> None:
    good, bad = log_prompt_model(store, "good", DECLARED), log_prompt_model(store, "bad", DECLARED)
    (tmp_path / "artifacts" / "models" / bad / "artifacts" / "MLmodel").write_text(content)
    catalogue = Catalogue(store)
    assert [entry.model_id for entry in catalogue.list_models()] == [good]
    assert [(key, name) for key, (name, _) in catalogue.unreadable_models.items()] == [(bad, "bad")]
    with pytest.raises(UserError, match="no longer in the tracking store"):
        catalogue.find(bad)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_what_a_model_declares_of_itself_may_be_anything(store: str) -> None:
    odd = {"title": 5, "license": ["x"], "context_length": "abc"}
    card = Catalogue(store).load_card(log_prompt_model(store, "odd", {**DECLARED, **odd}))
    assert (card.title, card.license, card.context_length) == ("", "", None)


@pytest.mark.parametrize("model_id", ["m-none", "../../etc/passwd", "x' OR '1'='1"])
def test_an_id_that_is_none_is_a_clear_error(store: str, model_id: str) -> None:
    with pytest.raises(UserError, match="no longer in the tracking store"):
        Catalogue(store).find(model_id)


def test_no_id_is_a_clear_error(store: str) -> None:
    with pytest.raises(UserError, match="No model is picked"):
        Catalogue(store).find(None)


def test_a_store_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match="does not answer"):
        Catalogue("http://127.0.0.1:9").list_models()


def test_the_command_line_lists_the_same_as_json(demo: Demo) -> None:
    command = [sys.executable, "-m", "phi3_ui", "list", "--json"]
    environment = {"PATH": "", "PHI3_UI_HOME": str(demo.settings.home)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    listed = json.loads(done.stdout)
    assert [model["contract"] for model in listed] == ["prompt", "chat"]
    for model, entry in zip(listed, demo.catalogue.list_models(), strict=True):
        assert model["name"] == entry.name
        assert model["model_id"] == entry.model_id
        assert model["uri"] == f"models:/{entry.model_id}"
        assert model["flavor"] == {"prompt": "pyfunc", "chat": "transformers"}[entry.contract]
        assert model["created"] == entry.created.isoformat()
        assert model["size_bytes"] == entry.size_bytes
        assert model["run_id"] == entry.run_id
        assert model["tracking_uri"] == demo.settings.tracking_uri
