"""The catalogue of a real store: which models are listed, and the details of one."""

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import yaml  # type: ignore[import-untyped]
from mlflow import MlflowClient

from phi3_ui.errors import UserError
from phi3_ui.paths import ROOT
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.doctor import diagnose
from phi3_ui.ui.render.model_card import render_card
from phi3_ui.ui.render.model_menu import describe_menu
from tests.conftest import Demo
from tests.store.registry.prompt_models import DECLARED, log_prompt_model

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")


def test_only_models_that_declare_a_contract_are_listed_newest_first(uri: str) -> None:
    log_prompt_model(uri, "undeclared", {})
    first = log_prompt_model(uri, "first", DECLARED)
    second = log_prompt_model(uri, "second", DECLARED)
    log_prompt_model(uri, "no-template", {"contract": "prompt"})
    log_prompt_model(uri, "chat-but-no-pipeline", {"contract": "chat"})
    entries = Catalogue(uri).list_models()
    assert [entry.model_id for entry in entries] == [second, first]
    assert {entry.engine for entry in entries} == {"python"}
    assert {entry.preset for entry in entries} == {None}
    for entry in entries:
        assert entry.folder
        assert (Path(entry.folder) / "MLmodel").is_file()


def test_a_card_shows_run_versions_and_aliases(uri: str) -> None:
    model_id = log_prompt_model(uri, "registered", DECLARED, in_run=True)
    for _ in range(2):
        mlflow.register_model(f"models:/{model_id}", "chat-model")
    MlflowClient(uri).set_registered_model_alias("chat-model", "champion", "2")
    card = Catalogue(uri).load_card(model_id)
    assert card.context_length == 100
    assert card.run is not None
    assert (card.run.name, card.run.experiment, card.run.metrics) == ("a run", "models", {"loss": 0.5})
    assert card.run.experiment_id == card.experiment_id != ""
    assert not card.run.is_deleted
    MlflowClient(uri).delete_run(card.run.run_id)
    deleted = Catalogue(uri).load_card(model_id)
    assert deleted.run
    assert deleted.run.is_deleted
    assert f"mlflow runs restore --run-id {deleted.run.run_id}" in render_card("en", deleted)
    assert sorted((version.name, version.version, version.aliases) for version in card.versions) == [
        ("chat-model", "1", ()),
        ("chat-model", "2", ("champion",)),
    ]


def test_a_deleted_model_is_not_found(uri: str) -> None:
    catalogue = Catalogue(uri)
    model_id = log_prompt_model(uri, "deleted", DECLARED)
    assert catalogue.find(model_id).name == "deleted"
    MlflowClient(uri).delete_logged_model(model_id)
    assert catalogue.list_models() == []
    with pytest.raises(UserError, match="no longer in the tracking store"):
        catalogue.find(model_id)


@pytest.mark.parametrize("content", ["", "- a list", "{", "flavors: 7", "\0"])
def test_a_damaged_model_hides_no_other(uri: str, tmp_path: Path, content: str) -> None:
    good, bad = log_prompt_model(uri, "good", DECLARED), log_prompt_model(uri, "bad", DECLARED)
    (tmp_path / "artifacts" / "models" / bad / "artifacts" / "MLmodel").write_text(content)
    catalogue = Catalogue(uri)
    assert [entry.model_id for entry in catalogue.list_models()] == [good]
    assert [(key, name) for key, (name, _) in catalogue.unreadable_models.items()] == [(bad, "bad")]
    with pytest.raises(UserError, match=r"The files of bad cannot be read \(MLmodel is damaged"):
        catalogue.find(bad)


_BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (None, "there is no MLmodel file"),
        ("", "it is not a mapping"),
        (_BOMB, "it has more than 100,000 values"),
        ("flavors: {python_function: 7}", "flavors is not a mapping of mappings"),
        ("flavors: {python_function: {artifacts: {a: b}}}", "artifacts is not a mapping of paths"),
        ("flavors: {}\nmetadata: [x]", "metadata is not a mapping"),
        ("flavors: {}\nsignature: {inputs: '[7]'}", "MLmodel is damaged"),
        ("flavors: {}\nsignature: {inputs: '" + "[" * 50_000 + "'}", "MLmodel is damaged"),
    ],
)
def test_a_model_damaged_while_the_app_runs_is_named_and_the_store_is_not_blamed(
    uri: str, tmp_path: Path, content: str | None, detail: str
) -> None:
    good, bad = log_prompt_model(uri, "good", DECLARED), log_prompt_model(uri, "bad", DECLARED)
    catalogue = Catalogue(uri)
    assert len(catalogue.list_models()) == 2
    mlmodel = tmp_path / "artifacts" / "models" / bad / "artifacts" / "MLmodel"
    if content is None:
        shutil.rmtree(mlmodel.parent)
    else:
        mlmodel.write_text(content)

    for use in (catalogue.load_card, lambda model_id: catalogue.load_declaration(catalogue.find(model_id))):
        with pytest.raises(UserError) as raised:
            use(bad)
        assert raised.value.code == "model_unreadable"
        assert detail in str(raised.value)
    if content is not None:
        with pytest.raises(UserError) as raised:
            diagnose(uri, bad)
        assert raised.value.code == "model_unreadable"
    else:
        assert [finding.code for finding in diagnose(uri, bad).findings] == ["file_missing"]
    assert catalogue.load_card(good).entry.name == "good"
    assert {entry.name for entry in Catalogue(uri).list_models()} == {"good"}


@pytest.mark.parametrize(
    "entries",
    [
        {"model_size_bytes": "many"},
        {"model_size_bytes": 10**400},
        {"mlflow_version": "3 or so"},
        {"metadata": {**DECLARED, "context_length": 10**400, "title": ["x"], "degrades_after": -1}},
        {"utc_time_created": {}, "model_uuid": [], "run_id": 7},
    ],
)
def test_odd_values_of_a_model_hide_no_other_and_raise_no_unexpected_error(
    uri: str, tmp_path: Path, entries: dict[str, object]
) -> None:
    log_prompt_model(uri, "good", DECLARED)
    odd = log_prompt_model(uri, "odd", DECLARED)
    mlmodel = tmp_path / "artifacts" / "models" / odd / "artifacts" / "MLmodel"
    mlmodel.write_text(yaml.safe_dump({**yaml.safe_load(mlmodel.read_text()), **entries}))
    catalogue = Catalogue(uri)

    listed = catalogue.list_models()
    assert "good" in {entry.name for entry in listed}
    assert describe_menu("en", listed, {})
    with contextlib.suppress(UserError):
        assert render_card("en", catalogue.load_card(odd))
    with contextlib.suppress(UserError):
        diagnose(uri, odd)


def test_metadata_of_the_wrong_type_is_ignored(uri: str) -> None:
    odd = {"title": 5, "license": ["x"], "context_length": "abc"}
    card = Catalogue(uri).load_card(log_prompt_model(uri, "odd", {**DECLARED, **odd}))
    assert (card.title, card.license, card.context_length) == ("", "", None)


@pytest.mark.parametrize("model_id", ["m-none", "../../etc/passwd", "x' OR '1'='1"])
def test_an_unknown_model_id_is_a_user_error(uri: str, model_id: str) -> None:
    with pytest.raises(UserError, match="no longer in the tracking store"):
        Catalogue(uri).find(model_id)


def test_a_missing_model_id_is_a_user_error(uri: str) -> None:
    with pytest.raises(UserError, match="No model is selected"):
        Catalogue(uri).find(None)


def test_an_unreachable_store_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match="does not answer"):
        Catalogue("http://127.0.0.1:9").list_models()


def test_the_list_command_prints_the_catalogue_as_json(demo: Demo) -> None:
    command = [sys.executable, "-m", "phi3_ui", "list", "--json"]
    environment = {"PATH": "", "PHI3_UI_HOME": str(demo.settings.home)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    listed = json.loads(result.stdout)
    assert [model["contract"] for model in listed] == ["chat", "prompt"], "newest first"
    for model, entry in zip(listed, demo.catalogue.list_models(), strict=True):
        assert model["name"] == entry.name
        assert model["model_id"] == entry.model_id
        assert model["uri"] == f"models:/{entry.model_id}"
        assert model["flavor"] == {"prompt": "pyfunc", "chat": "transformers"}[entry.contract]
        assert model["created"] == entry.created.isoformat()
        assert model["size_bytes"] == entry.size_bytes
        assert model["run_id"] == entry.run_id
        assert model["tracking_uri"] == demo.settings.tracking_uri
