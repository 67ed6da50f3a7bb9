"""Models that MLflow's openai flavour logged."""

import json
import warnings
from pathlib import Path
from typing import Any

import mlflow
import pytest

from phi3_ui.chat.types import Message
from phi3_ui.errors import UserError
from phi3_ui.store.registry.cards import LoggedRequest
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.openai_flavor import parse_logged_request
from phi3_ui.store.registry.trust import inspect_model
from tests.support.build_cache import create_store

SYSTEM = {"role": "system", "content": "Be {{brief}}."}


def chat(*messages: object, **others: object) -> LoggedRequest | None:
    return parse_logged_request({"task": "chat.completions", "model": "gpt-4o", "messages": list(messages), **others})


@pytest.mark.parametrize(
    ("messages", "opening"),
    [
        ((), ()),
        ((SYSTEM,), (Message("system", "Be {brief}."),)),
        ((SYSTEM, {"role": "user", "content": "{question}"}), (Message("system", "Be {brief}."),)),
        (({"role": "developer", "content": "x"},), (Message("system", "x"),)),
    ],
)
def test_a_chat_begins_with_its_messages(messages: tuple[object, ...], opening: tuple[Message, ...]) -> None:
    assert chat(*messages) == LoggedRequest("gpt-4o", opening)


@pytest.mark.parametrize(
    "parse",
    [
        lambda: chat({"role": "user", "content": "A joke about {topic}"}),
        lambda: chat({"role": "system", "content": "{style}"}, {"role": "user", "content": "{question}"}),
        lambda: chat(task="embeddings"),
        lambda: parse_logged_request(["chat.completions"]),
    ],
)
def test_templates_and_other_tasks_are_not_chats(parse: Any) -> None:
    assert parse() is None


@pytest.mark.parametrize(
    "arguments", [{"model": 1}, {"model": ""}, {"messages": "x"}, {"messages": [{"role": "x", "content": "y"}]}]
)
def test_a_damaged_model_is_unreadable(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"model|message"):
        chat(**arguments)
    with pytest.raises(ValueError, match=r"brace|Single"):
        chat({"role": "user", "content": "}"})


def test_logged_models_are_listed_without_loading_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = create_store(tmp_path, "openai")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    previous_uri = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("openai")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logged = mlflow.openai.log_model(
                model="gpt-4o-mini", task="chat.completions", name="assistant", messages=[SYSTEM], pip_requirements=[]
            )
    finally:
        mlflow.set_tracking_uri(previous_uri)
        monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)

    for _ in range(2):  # the second time from the cached entries
        [entry] = Catalogue(uri, tmp_path / "catalogue").list_models()
        assert (entry.name, entry.engine, entry.is_remote, entry.is_unlogged) == ("assistant", "openai", True, False)
        assert entry.logged_request == LoggedRequest("gpt-4o-mini", (Message("system", "Be {brief}."),))
    assert Catalogue(uri).load_card(logged.model_id).signature["outputs"] == ("string (required)",)

    [file] = tmp_path.rglob("model.yaml")
    assert inspect_model(file.parent).level == "code", "a process would not load it without approval"
    secret = tmp_path / "secret.yaml"
    file.rename(secret)
    file.symlink_to(secret)
    with pytest.raises(UserError, match="not a file"):
        Catalogue(uri).find(logged.model_id)
    assert json.dumps(Catalogue(uri).unreadable_models) == "{}"
