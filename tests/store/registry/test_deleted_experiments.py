"""Models in deleted experiments, no matter who logged them: the error names the experiments and the remedy."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from phi3_ui.errors import UserError
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from phi3_ui.store.registry.catalogue import Catalogue
from tests.store.registry.prompt_models import DECLARED, log_prompt_model
from tests.support.command_line import RunCommand
from tests.support.run_artifacts import log_say_model

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*ChatModel.*:FutureWarning")


def _delete_models_experiment(uri: str) -> str:
    """Delete the experiment `models`, and return its id."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("models")
    assert experiment
    client.delete_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _restore_command(uri: str, experiment_id: str) -> str:
    return f"`MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id {experiment_id}`"


def test_a_deleted_experiment_with_models_is_named_and_no_first_run_starts(
    uri: str, tmp_path: Path, run_command: RunCommand
) -> None:
    model_id = log_prompt_model(uri, "kept", DECLARED)
    id_ = _delete_models_experiment(uri)
    settings = Settings(home=tmp_path, tracking_uri=uri)

    with pytest.raises(UserError) as raised:
        FirstRun(settings, Catalogue(uri)).is_needed()
    assert raised.value.code == "models_deleted"
    assert f"in deleted experiments: models ({id_})" in str(raised.value)
    assert _restore_command(uri, id_) in str(raised.value)

    home = tmp_path / "home"
    for command in (["list"], ["chat", "kept", "Hi"], ["chat", "another", "Hi"], ["setup"]):
        result = run_command(home, *command, MLFLOW_TRACKING_URI=uri)
        assert _restore_command(uri, id_) in result.stderr, result.stderr
        assert "has no chat models" not in result.stderr
    assert [experiment.name for experiment in MlflowClient(uri).search_experiments()] == ["Default"]

    # A user who wants other models chooses a preset explicitly.
    explicit = Settings.read({"PHI3_UI_HOME": str(home), "MLFLOW_TRACKING_URI": uri, "PHI3_UI_PRESET": "demo"})
    assert FirstRun(explicit, Catalogue(uri)).is_needed()
    MlflowClient(uri).restore_experiment(id_)
    assert not FirstRun(settings, Catalogue(uri)).is_needed()
    assert Catalogue(uri).find(model_id).name == "kept"


def test_a_deleted_run_artifact_is_found_and_a_deleted_model_without_contract_is_not(uri: str, tmp_path: Path) -> None:
    log_prompt_model(uri, "undeclared", {})
    id_ = _delete_models_experiment(uri)
    catalogue = Catalogue(uri)
    assert catalogue.find_deletion() is None
    assert FirstRun(Settings(home=tmp_path, tracking_uri=uri), catalogue).is_needed()

    MlflowClient(uri).restore_experiment(id_)
    log_say_model(MlflowClient(uri), tmp_path / "model", "say", is_listed=True)
    _delete_models_experiment(uri)
    deletion = Catalogue(uri).find_deletion()
    assert deletion
    assert f"models ({id_})" in str(deletion)


def test_the_absence_of_a_model_in_a_deleted_experiment_is_explained(uri: str) -> None:
    log_prompt_model(uri, "archived", DECLARED)
    _delete_models_experiment(uri)
    catalogue = Catalogue(uri)

    error = catalogue.explain_absence("archived", is_empty=False)
    assert error
    assert error.code == "models_deleted"
    assert catalogue.explain_absence("never logged", is_empty=False) is None


def test_missing_files_of_a_model_are_reported_for_each_of_its_names(
    uri: str, run_command: RunCommand, tmp_path: Path
) -> None:
    model_id = log_prompt_model(uri, "broken", DECLARED)
    client = MlflowClient(uri)
    client.create_registered_model("registered")
    client.create_model_version("registered", f"models:/{model_id}", model_id=model_id)
    for file in (tmp_path / "artifacts").rglob("MLmodel"):
        file.unlink()

    for name in ("broken", model_id, "registered/1"):
        result = run_command(tmp_path / "home", "chat", name, "Hi", MLFLOW_TRACKING_URI=uri)
        assert result.returncode == 1
        assert "The files of broken cannot be read" in result.stderr, name
