"""The setup stores READY models, each with a complete run."""

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus

from models.tracking import EXPERIMENT
from tests.conftest import Demo

VERSIONS = {
    "prompt": ["onnxruntime-genai", "onnxruntime", "mlflow"],
    "chat": ["transformers", "torch", "mlflow"],
}


@pytest.mark.parametrize("contract", ["prompt", "chat"])
def test_each_model_has_a_finished_run_with_params_metrics_and_tags(demo: Demo, contract: str) -> None:
    card = demo.catalogue.load_card(demo.entry(contract).model_id)
    assert card.run is not None
    assert card.run.status == "FINISHED"
    assert card.run.experiment == EXPERIMENT
    assert card.run.params["preset"] == "demo"
    assert card.run.params["precision"] == {"prompt": "int8", "chat": "float32"}[contract]
    assert card.run.params["context_length"] == "8192"
    assert set(VERSIONS[contract]) <= set(card.run.params)
    assert card.run.metrics["size_bytes"] > 100e6
    assert card.run.metrics["load_seconds"] > 0
    assert card.run.metrics["tokens_per_second"] > 0
    assert card.run.tags["contract"] == contract
    assert card.run.tags["task"] == {"prompt": "text-generation", "chat": "llm/v1/chat"}[contract]


def test_every_model_in_the_store_is_ready(demo: Demo) -> None:
    client = MlflowClient(demo.settings.tracking_uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment
    models = client.search_logged_models([experiment.experiment_id])
    assert len(models) == 2
    assert {model.status for model in models} == {LoggedModelStatus.READY}


def test_the_shared_embedding_is_stored_once(demo: Demo) -> None:
    size = demo.entry("prompt").size_bytes
    assert size is not None
    assert size < 165e6
