"""Prompt sets in a store: records, versions, and changes by other programs."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import EvaluationDataset
from mlflow.tracing.client import TracingClient

from models.tracking import Store
from phi3_ui.chat.types import Message
from phi3_ui.errors import UserError
from phi3_ui.evaluation import prompt_sets
from phi3_ui.evaluation.prompt_set import PromptRecord, PromptSet
from phi3_ui.evaluation.prompt_sets import PromptSets, PromptSetVersion
from phi3_ui.store.conversations.location import ChatLocation
from tests.support.build_cache import create_store


def _record(question: str, **expectations: object) -> PromptRecord:
    return PromptRecord((Message("user", question),), expectations)


def _questions(prompt_set: PromptSet) -> list[str]:
    return [record.question for record in prompt_set.records]


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> ChatLocation:
    uri = create_store(tmp_path_factory.mktemp("store"), "phi3-chat")
    return ChatLocation(uri, Store(uri).experiment_id())


@pytest.fixture
def sets(location: ChatLocation) -> Iterator[PromptSets]:
    yield PromptSets(lambda: location)
    client = MlflowClient(location.tracking_uri)
    for dataset in client.search_datasets(experiment_ids=[location.experiment_id]):
        client.delete_dataset(dataset.dataset_id)


def test_a_set_keeps_the_order_of_its_requests_and_each_only_once(sets: PromptSets) -> None:
    created = sets.create("  two \n words ", [_record(str(number)) for number in range(20)])
    added = sets.add_records(created.id, [_record("new"), _record("3", expected_response="III"), _record("new")])

    assert created.name == "two words"
    assert _questions(added) == [*map(str, range(20)), "new"]
    assert added.records[3].expectations == {"expected_response": "III"}
    assert [prompt_set.name for prompt_set in sets.list_sets()] == ["two words"]


def test_every_version_can_be_loaded_again_by_number(sets: PromptSets) -> None:
    first = sets.create("capitals", [_record("France?", expected_response="Paris", hint="P"), _record("Italy?")])
    key = first.records[0].key
    second = sets.edit_expectations(first.id, key, {"expected_response": "Paris."})
    third = sets.remove_records(first.id, [key])
    unchanged = sets.add_records(first.id, [])

    assert second.records[0].expectations == {"expected_response": "Paris."}
    assert [prompt_set.version for prompt_set in (first, second, third, unchanged)] == [1, 2, 3, 3]
    assert sets.load("capitals") == third
    assert [sets.load(f"capitals/{number}") for number in (1, 2, 3)] == [first, second, third]
    assert sets.load(first.id, 1).digest == first.digest
    versions = sets.list_versions(first.id)
    assert [(version.number, version.digest, version.records) for version in versions] == [
        (3, third.digest, 1),
        (2, second.digest, 2),
        (1, first.digest, 2),
    ]


def test_an_empty_set_has_a_version(sets: PromptSets) -> None:
    assert sets.create("empty").records == ()
    assert sets.load("empty/1").records == ()


def test_records_edited_in_mlflow_become_a_version(sets: PromptSets, location: ChatLocation) -> None:
    created = sets.create("capitals", [_record("France?")])
    messages = [{"role": "user", "content": "Italy?"}]
    edited = [{"inputs": {"messages": messages}, "expectations": {"expected_response": "Rome"}}]
    invalid = [{"inputs": {"question": "no chat"}}]
    TracingClient(location.tracking_uri).store.upsert_dataset_records(created.id, [*edited, *invalid])

    loaded = sets.load("capitals")

    assert (loaded.version, _questions(loaded)) == (2, ["France?", "Italy?"])
    assert sets.load("capitals/1") == created


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("7", "d x 3"),
        ("7", "d nan 3"),
        ("7", "d 1e300 3"),
        ("7", "d 99999999999 3"),
        ("7", "d -1 3"),
        ("7", "d 1 x"),
        ("7", "../../d 1 3"),
        ("7", f"d 1 {'9' * 5000}"),
        ("9" * 5000, "d 1 3"),
        ("²", "d 1 3"),
        ("7", "d 1"),
    ],
)
def test_an_invalid_version_tag_is_ignored(key: str, value: str) -> None:
    digest = "ab" * 32
    tags = {"phi3_ui.version.6": f"{digest} 1700000000.125 3", f"phi3_ui.version.{key}": value, "other": "x"}
    dataset = EvaluationDataset("d-1", "capitals", "digest", created_time=0, last_update_time=0, tags=tags)

    assert prompt_sets._parse_versions(dataset) == (PromptSetVersion(6, digest, 1700000000.125, 3),)


def test_a_changed_snapshot_is_not_used(sets: PromptSets, location: ChatLocation) -> None:
    created = sets.create("capitals", [_record("France?")])
    client = MlflowClient(location.tracking_uri)
    run_id = client.get_dataset(created.id).tags["phi3_ui.versions_run"]
    client.log_text(run_id, '{"prompt": "Spain?"}\n', f"versions/{created.digest}.jsonl")

    with pytest.raises(UserError, match="was changed in the store"):
        sets.load("capitals/1")


def test_two_users_add_records_concurrently(sets: PromptSets) -> None:
    created = sets.create("shared")
    threads = [
        threading.Thread(
            target=sets.add_records, args=(created.id, [_record(f"{user} {number}") for number in range(5)])
        )
        for user in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(sets.load("shared").records) == 10
    assert [version.number for version in sets.list_versions(created.id)] == [3, 2, 1]


@pytest.mark.parametrize("name", ["", " ", "a/b", "x" * 101, "bell\a"])
def test_a_bad_name_is_refused(sets: PromptSets, name: str) -> None:
    with pytest.raises(UserError, match="not a name for a prompt set"):
        sets.create(name)


def test_impossible_changes_are_refused_with_the_reason(
    sets: PromptSets, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    created = sets.create("capitals", [_record("France?")])
    with pytest.raises(UserError, match="There is already a prompt set called capitals"):
        sets.create("capitals")
    with pytest.raises(UserError, match="no prompt set none"):
        sets.load("none")
    with pytest.raises(UserError, match="no version 9"):
        sets.load("capitals/9")
    with pytest.raises(UserError, match="no longer in the prompt set"):
        sets.edit_expectations(created.id, "nothing", {})
    (tmp_path / "q.exe").touch()
    with pytest.raises(UserError, match=r"unsupported file type \.exe"):
        sets.add_file(created.id, tmp_path / "q.exe")
    monkeypatch.setattr(prompt_sets, "MAX_RECORDS", 1)
    with pytest.raises(UserError, match="at most 1 requests"):
        sets.add_records(created.id, [_record("Italy?")])
    assert sets.load("capitals") == created
