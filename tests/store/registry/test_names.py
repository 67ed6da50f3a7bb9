"""Every way to name a model, on a real registry."""

from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from phi3_ui.errors import UserError
from phi3_ui.store.registry.catalogue import Catalogue, RegisteredVersion
from tests.store.registry.prompt_models import DECLARED, log_prompt_model
from tests.support.build_cache import create_store

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")


@pytest.fixture
def registered(tmp_path: Path) -> tuple[str, list[str]]:
    """A store that the test may change, as _register_models creates it."""
    return _register_models(tmp_path)


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of a store that no test changes, as _register_models creates it."""
    return _register_models(tmp_path_factory.mktemp("registered"))[0]


def _register_models(folder: Path) -> tuple[str, list[str]]:
    """Create a store with two versions of `chat-model`, and `other-model`, which is not chat-capable.

    Version 1 of `chat-model` is its champion, version 2 its challenger.

    Returns its URI and the ids of the two versions.
    """
    uri = create_store(folder, "models")
    client = MlflowClient(uri)
    ids = [log_prompt_model(uri, name, DECLARED) for name in ("one", "two")]
    for model_id in ids:
        mlflow.register_model(f"models:/{model_id}", "chat-model")
    client.set_registered_model_alias("chat-model", "champion", "1")
    client.set_registered_model_alias("chat-model", "challenger", "2")
    mlflow.register_model(f"models:/{log_prompt_model(uri, 'other', {})}", "other-model")
    client.set_registered_model_alias("other-model", "champion", "1")
    return uri, ids


def test_a_model_is_found_by_each_of_its_names(registered: tuple[str, list[str]]) -> None:
    uri, (first, second) = registered
    catalogue = Catalogue(uri)
    names = {
        first: [first, f"models:/{first}", "chat-model@champion", "chat-model/1", "models:/chat-model@champion"],
        second: ["chat-model@challenger", "models:/chat-model/2", "chat-model/latest", f"models:/{second}"],
    }
    for model_id, keys in names.items():
        assert {key: catalogue.find(key).model_id for key in keys} == dict.fromkeys(keys, model_id)
    assert catalogue.load_card("chat-model/2").entry.name == "two"


def test_a_moved_alias_is_followed(registered: tuple[str, list[str]]) -> None:
    uri, (_, second) = registered
    catalogue = Catalogue(uri)
    catalogue.find("chat-model@champion")
    MlflowClient(uri).set_registered_model_alias("chat-model", "champion", "2")

    assert catalogue.find("chat-model@champion").model_id == second


@pytest.mark.parametrize(
    "key",
    [
        *("chat-model@nobody", "nobody@champion", "chat-model/7", "chat-model/x", "nobody/1", "nobody/latest"),
        *(
            "other-model@champion",
            "models:/",
            "models:/m-none",
            "@",
            "/",
            "a/b/1",
            "x' OR '1'='1@champion",
            "x'/latest",
        ),
    ],
)
def test_an_unknown_name_is_a_user_error(unchanged: str, key: str) -> None:
    with pytest.raises(UserError, match="no longer in the tracking store"):
        Catalogue(unchanged).find(key)


def test_versions_are_listed_with_their_aliases(registered: tuple[str, list[str]]) -> None:
    uri, (first, second) = registered

    versions = Catalogue(uri).list_versions()
    assert versions[first] == (RegisteredVersion("chat-model", "1", ("champion",)),)
    assert versions[second] == (RegisteredVersion("chat-model", "2", ("challenger",)),)


def test_an_unknown_template_is_rejected_and_one_in_the_store_is_ignored(registered: tuple[str, list[str]]) -> None:
    uri, (first, _) = registered
    catalogue = Catalogue(uri)
    with pytest.raises(ValueError, match="unknown template"):
        catalogue.set_template(first, "gpt")

    unknown: dict[str, Any] = {"phi3_ui.template": "from a newer version"}
    MlflowClient(uri).set_logged_model_tags(first, unknown)
    assert catalogue.find(first).template is None
