"""The error for a store that refuses: the reason and its remedy, in one sentence."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.store.db import utils

from models import store_features
from models.stage import StageError
from models.store_features import StoreFeatures
from models.store_state import quote_store
from models.tracking import EXPERIMENT, Store, model_run
from phi3_ui.chat.conversation import new_id
from phi3_ui.errors import UserError
from phi3_ui.provision.first_run import FirstRun
from phi3_ui.settings import Settings
from phi3_ui.store.conversations.location import ChatLocation, ChatLocator
from phi3_ui.store.conversations.recorder import Recorder
from phi3_ui.store.errors import find_notice, translate_store_errors
from phi3_ui.store.registry.catalogue import Catalogue
from tests.store.conversations.chats import make_conversation
from tests.store.conversations.recording import TIMEOUT, record_turn, wait_until
from tests.support.build_cache import create_store


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return create_store(tmp_path, EXPERIMENT)


def test_a_deleted_experiment_is_named_with_its_remedy_until_it_is_restored(uri: str, tmp_path: Path) -> None:
    client, store = MlflowClient(uri), Store(uri)
    id_ = store.experiment_id()
    client.delete_experiment(id_)
    locator = ChatLocator(Settings(home=tmp_path, tracking_uri=uri))
    first_run = FirstRun(Settings(home=tmp_path, tracking_uri=uri), Catalogue(uri))

    with pytest.raises(
        StageError, match=f"{EXPERIMENT}.*`MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id {id_}`"
    ):
        store.experiment_id()
    with pytest.raises(StageError, match="experiments restore"), model_run(store, "model", {}, {}, {}):
        pytest.fail("a run was started")
    with pytest.raises(UserError, match="experiments restore"):
        locator.locate()
    assert locator.notice
    assert locator.notice.code == "experiment_deleted"
    with pytest.raises(UserError, match="experiments restore"):
        first_run.is_needed()
    notice = find_notice(store)
    assert notice
    assert notice.code == "experiment_deleted"

    client.restore_experiment(id_)
    assert locator.locate() == ChatLocation(uri, id_)
    assert find_notice(store) is None
    assert locator.notice is None


def test_chats_wait_for_an_experiment_that_is_deleted_while_the_app_runs(uri: str, tmp_path: Path) -> None:
    client, id_ = MlflowClient(uri), Store(uri).experiment_id()
    recorder = Recorder(lambda: ChatLocation(uri, id_), tmp_path / "journal")
    try:
        client.delete_experiment(id_)
        record_turn(recorder, new_id(), make_conversation())
        wait_until(lambda: recorder.warning and recorder.warning.code == "experiment_deleted")

        client.restore_experiment(id_)
        assert recorder.flush(TIMEOUT)
        wait_until(lambda: recorder.warning is None)
        assert len(client.search_traces(locations=[id_])) == 1
    finally:
        recorder.close()


def test_a_renamed_experiment_is_used_and_named_until_there_is_a_new_one(uri: str, tmp_path: Path) -> None:
    client, store = MlflowClient(uri), Store(uri)
    id_ = store.experiment_id()
    client.rename_experiment(id_, "archive")
    locator = ChatLocator(Settings(home=tmp_path, tracking_uri=uri))

    assert store.experiment_id() == id_
    assert locator.locate().experiment_id == id_
    assert locator.notice
    assert f"MLFLOW_TRACKING_URI={uri} mlflow experiments rename --experiment-id {id_} --new-name {EXPERIMENT}" in str(
        locator.notice
    )

    replacement = client.create_experiment(EXPERIMENT)
    assert store.experiment_id() == replacement
    assert store.find_renamed() is None


def test_a_deleted_run_is_named_with_its_remedy(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client, store = MlflowClient(uri), Store(uri)
    run_id = client.create_run(store.experiment_id(), run_name="a run").info.run_id
    client.delete_run(run_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    cure = f"a run.*MLFLOW_TRACKING_URI={uri} mlflow runs restore --run-id {run_id}"
    with pytest.raises(StageError, match=cure), model_run(store, "model", {}, {}, {}):
        pytest.fail("the run was continued")


@pytest.mark.parametrize(("age", "code"), [("new", "store_schema_new"), ("old", "store_schema_old")])
def test_the_tables_of_another_mlflow_version_are_named_with_their_remedy(tmp_path: Path, age: str, code: str) -> None:
    uri = create_store(tmp_path)
    scripts = ScriptDirectory.from_config(utils._get_alembic_config(uri))
    oldest = next(iter(scripts.get_bases()))
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", ["ffffffffffff" if age == "new" else oldest])

    with pytest.raises(UserError) as raised, translate_store_errors(uri):
        MlflowClient(uri).search_experiments()
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("uri", "quoted"),
    [
        ("sqlite:////home/my store/mlflow.db", "'sqlite:////home/my store/mlflow.db'"),
        ("postgresql://me:secret@db/mlflow", "'postgresql://me:***@db/mlflow'"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_a_store_in_a_command_is_quoted_for_the_shell_without_its_password(uri: str, quoted: str) -> None:
    assert quote_store(uri) == quoted


def test_chats_are_kept_beside_the_app_where_the_store_keeps_no_traces(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(store_features._known, uri, StoreFeatures(logged_models=False, traces=False))
    home = tmp_path / "home"
    local = create_store(home)
    (home / "mlflow.db").rename(home / "chats.db")
    locator = ChatLocator(Settings(home=home, tracking_uri=uri))

    location = locator.locate()

    assert location.tracking_uri == local.replace("mlflow.db", "chats.db")
    assert locator.linked_experiment_id is None
    assert str(locator.notice) == (
        f"The tracking store {uri} does not store traces (MLflow 3.4 or later does), "
        f"so chats are kept on this computer, in {home / 'chats.db'}."
    )


def test_the_password_of_an_unresponsive_store_is_in_no_message() -> None:
    uri = "https://me:s3cret@mlflow.example/"
    with pytest.raises(UserError) as refused, translate_store_errors(uri):
        raise OSError(f"request to {uri}api failed for {uri}")

    assert "s3cret" not in str(refused.value)
    assert "https://me:***@mlflow.example/" in str(refused.value)
