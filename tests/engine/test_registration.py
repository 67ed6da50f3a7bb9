"""Logging a model registers a version of it, with a description, tags and the right alias."""

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from models import log_pipeline
from models.presets import Origin
from models.registry import register
from models.tracking import Logged, Store, register_missing
from tests.support.build_cache import create_store

ORIGIN = Origin(preset="tiny", name="tiny-phi3", title="Tiny Phi-3 Instruct", source="owner/tiny", license="mit")
NAME = "tiny-phi3-pipeline"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(create_store(tmp_path), (tmp_path / "artifacts").as_uri())


@pytest.fixture
def client(store: Store) -> MlflowClient:
    return MlflowClient(store.tracking_uri)


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Path:
    return tiny_checkpoint


def log(checkpoint: Path, store: Store, *, registering: bool = True) -> Logged:
    return log_pipeline.log(checkpoint, ORIGIN, store, lambda *_: None, measured=False, registering=registering)


def get_aliases(client: MlflowClient) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model(NAME).aliases.items()}


def test_the_first_version_becomes_champion_and_later_ones_challenger(
    checkpoint: Path, store: Store, client: MlflowClient
) -> None:
    first, second, third = (log(checkpoint, store) for _ in range(3))

    assert [(logged.name, logged.version) for logged in (first, second, third)] == [
        (NAME, "1"),
        (NAME, "2"),
        (NAME, "3"),
    ]
    assert get_aliases(client) == {"champion": "1", "challenger": "3"}
    assert client.get_model_version_by_alias(NAME, "champion").source == f"models:/{first.model_id}"
    assert mlflow.models.get_model_info(f"models:/{NAME}@challenger").model_id == third.model_id


def test_a_version_is_described_and_tagged(checkpoint: Path, store: Store, client: MlflowClient) -> None:
    logged = log(checkpoint, store)

    version = client.get_model_version(NAME, "1")
    assert version.source == f"models:/{logged.model_id}"
    assert version.tags == {
        "contract": "chat",
        "preset": "tiny",
        "precision": "float32",
        "source": "owner/tiny",
        "license": "mit",
    }
    model = client.get_registered_model(NAME)
    assert model.description == (
        "**Tiny Phi-3 Instruct**\n\nA model of Phi-3's architecture with made-up weights, for tests.\n\n"
        "Source: owner/tiny\n\nLicence: mit"
    )
    assert model.tags == {"license": "mit", "source": "owner/tiny", "card_tags": "nlp, code"}


def test_descriptions_and_aliases_set_by_a_user_are_kept(checkpoint: Path, store: Store, client: MlflowClient) -> None:
    log(checkpoint, store)
    log(checkpoint, store)
    client.update_registered_model(NAME, description="Ours.")
    client.set_registered_model_tag(NAME, "license", "checked")
    client.set_registered_model_alias(NAME, "champion", "2")

    log(checkpoint, store)

    model = client.get_registered_model(NAME)
    assert model.description == "Ours."
    assert model.tags["license"] == "checked"
    assert get_aliases(client) == {"champion": "2", "challenger": "3"}


def test_registering_is_idempotent(checkpoint: Path, store: Store, client: MlflowClient) -> None:
    logged = log(checkpoint, store)

    again = register(store.tracking_uri, logged.model_id)

    assert (again.name, again.version) == (NAME, logged.version)
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 1


def test_an_interrupted_registration_is_completed(checkpoint: Path, store: Store, client: MlflowClient) -> None:
    logged = log(checkpoint, store, registering=False)
    assert logged.version is None
    mlflow.register_model(f"models:/{logged.model_id}", NAME)  # killed here, before alias and description were set
    assert get_aliases(client) == {}

    register(store.tracking_uri, logged.model_id)

    assert get_aliases(client) == {"champion": "1"}
    assert client.get_registered_model(NAME).description


def test_missing_registrations_are_added_later(checkpoint: Path, store: Store, client: MlflowClient) -> None:
    models = [log(checkpoint, store, registering=False) for _ in range(2)]

    registered = register_missing(store, "tiny")

    assert [(model.model_id, model.version) for model in registered] == [
        (models[0].model_id, "1"),
        (models[1].model_id, "2"),
    ]
    assert get_aliases(client) == {"champion": "1", "challenger": "2"}
    assert register_missing(store, "tiny") == registered
    assert register_missing(store, "another") == []
    assert register_missing(Store(store.tracking_uri, experiment="none"), "tiny") == []


def test_the_registered_name_can_be_chosen(checkpoint: Path, store: Store, client: MlflowClient) -> None:
    logged = log(checkpoint, store, registering=False)

    assert register(store.tracking_uri, logged.model_id, "it's ours").version == "1"

    assert client.get_model_version("it's ours", "1").source == f"models:/{logged.model_id}"


def test_without_a_registry_the_model_is_stored_and_the_reason_reported(
    checkpoint: Path, store: Store, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "none://nowhere")

    logged = log(checkpoint, store)

    assert logged.version is None
    assert "Model Registry features are not supported" in logged.not_registered
    assert "\n" not in logged.not_registered
    assert client.get_logged_model(logged.model_id).status == "READY"
    assert logged.result() == {
        "model_id": logged.model_id,
        "name": NAME,
        "version": None,
        "not_registered": logged.not_registered,
    }
