"""What a person may call a model, over a real registry."""

from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from phi3_ui.errors import UserError
from phi3_ui.store.registry.catalogue import Catalogue, RegisteredAlias
from tests.store.registry.test_catalogue import DECLARED, log_prompt_model
from tests.support.build_cache import create_store

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")


@pytest.fixture
def registered(tmp_path: Path) -> tuple[str, list[str]]:
    """A store that the test may change; see _register_models."""
    return _register_models(tmp_path)


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of such a store that no test changes."""
    return _register_models(tmp_path_factory.mktemp("registered"))[0]


def _register_models(folder: Path) -> tuple[str, list[str]]:
    """Create a store with two versions of `their-chat`, the first one champion, and `no-chat`, which is no chat model.

    Returns its URI and the ids of the two versions.
    """
    uri = create_store(folder, "theirs")
    client = MlflowClient(uri)
    ids = [log_prompt_model(uri, name, DECLARED) for name in ("one", "two")]
    for model_id in ids:
        mlflow.register_model(f"models:/{model_id}", "their-chat")
    client.set_registered_model_alias("their-chat", "champion", "1")
    client.set_registered_model_alias("their-chat", "challenger", "2")
    mlflow.register_model(f"models:/{log_prompt_model(uri, 'other', {})}", "no-chat")
    client.set_registered_model_alias("no-chat", "champion", "1")
    return uri, ids


def test_a_model_is_found_by_every_name_it_has(registered: tuple[str, list[str]]) -> None:
    uri, (first, second) = registered
    catalogue = Catalogue(uri)
    names = {
        first: [first, f"models:/{first}", "their-chat@champion", "their-chat/1", "models:/their-chat@champion"],
        second: ["their-chat@challenger", "models:/their-chat/2", "their-chat/latest", f"models:/{second}"],
    }
    for model_id, keys in names.items():
        assert {key: catalogue.find(key).model_id for key in keys} == dict.fromkeys(keys, model_id)
    assert catalogue.load_card("their-chat/2").entry.name == "two"


def test_an_alias_that_moved_is_followed(registered: tuple[str, list[str]]) -> None:
    uri, (_, second) = registered
    catalogue = Catalogue(uri)
    catalogue.find("their-chat@champion")
    MlflowClient(uri).set_registered_model_alias("their-chat", "champion", "2")

    assert catalogue.find("their-chat@champion").model_id == second


@pytest.mark.parametrize(
    "key",
    [
        *("their-chat@nobody", "nobody@champion", "their-chat/7", "their-chat/x", "nobody/1", "nobody/latest"),
        *("no-chat@champion", "models:/", "models:/m-none", "@", "/", "a/b/1", "x' OR '1'='1@champion", "x'/latest"),
    ],
)
def test_a_name_of_nothing_is_a_clear_error(unchanged: str, key: str) -> None:
    with pytest.raises(UserError, match="no longer in the tracking store"):
        Catalogue(unchanged).find(key)


def test_the_aliases_of_chat_models_are_listed(registered: tuple[str, list[str]]) -> None:
    uri, (first, second) = registered

    assert Catalogue(uri).list_aliases() == [
        RegisteredAlias("their-chat", "challenger", "2", second),
        RegisteredAlias("their-chat", "champion", "1", first),
    ]
    MlflowClient(uri).delete_logged_model(second)
    assert [card.alias for card in Catalogue(uri).list_aliases()] == ["champion"]


def test_a_template_of_no_name_is_refused(registered: tuple[str, list[str]]) -> None:
    uri, (first, _) = registered
    catalogue = Catalogue(uri)
    with pytest.raises(ValueError, match="no template"):
        catalogue.set_template(first, "gpt")

    unknown: dict[str, Any] = {"phi3_ui.template": "of another version"}
    MlflowClient(uri).set_logged_model_tags(first, unknown)
    assert catalogue.find(first).template is None
