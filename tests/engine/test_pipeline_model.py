"""The Transformers pipeline, loaded from the store with plain MLflow, as in a notebook."""

from typing import Any

import mlflow
import pytest
from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA

from tests.conftest import Demo


@pytest.fixture(scope="module")
def model(demo: Demo) -> Any:
    mlflow.set_tracking_uri(demo.settings.tracking_uri)
    return mlflow.pyfunc.load_model(demo.entry("chat").uri)


def test_the_signature_is_that_of_the_chat_task(model: Any) -> None:
    signature = model.metadata.signature
    assert signature.inputs == CHAT_MODEL_INPUT_SCHEMA
    assert signature.outputs == CHAT_MODEL_OUTPUT_SCHEMA
    assert signature.params is None
    fields = {column.name: column.required for column in signature.inputs}
    assert fields["messages"] is True
    assert not any(required for name, required in fields.items() if name != "messages")
    assert [column.name for column in signature.outputs if column.required] == [
        "id",
        "object",
        "created",
        "model",
        "choices",
    ]


def test_the_metadata_declares_task_and_contract(model: Any) -> None:
    declared = model.metadata.metadata
    assert declared["task"] == "llm/v1/chat"
    assert declared["contract"] == "chat"
    assert declared["context_length"] == 8192
    assert model.metadata.flavors["transformers"]["inference_task"] == "llm/v1/chat"


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_plain_mlflow_predicts_as_documented(model: Any) -> None:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    (completion,) = model.predict({"messages": messages, "temperature": 0.01, "max_tokens": 12})
    assert completion["object"] == "chat.completion"
    assert completion["choices"][0]["message"] == {"role": "assistant", "content": "The capital of France is Paris."}
    assert completion["choices"][0]["finish_reason"] == "stop"
    assert completion["usage"] == {"prompt_tokens": 37, "completion_tokens": 8, "total_tokens": 45}
