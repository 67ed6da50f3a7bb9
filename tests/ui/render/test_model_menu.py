"""The rows of the model menu."""

from dataclasses import replace

from phi3_ui.store.conversations.summaries import TurnMetrics
from phi3_ui.store.registry.cards import RegisteredVersion
from phi3_ui.ui.render.model_menu import Problems, alias_keys, describe_menu, measure_speeds, server_title
from tests.support.cards import ENTRY

OLD, NEW, OTHER = (replace(ENTRY, model_id=model_id, context_length=8192) for model_id in ("m-1", "m-2", "m-3"))
VERSIONS = {
    "m-1": (RegisteredVersion("phi", "1", ("champion",)),),
    "m-2": (RegisteredVersion("phi", "2", ()),),
}


def test_models_are_grouped_by_registered_model_with_their_aliases_below() -> None:
    groups = describe_menu("en", [OTHER, NEW, OLD], VERSIONS)

    assert [(group["name"], [row["key"] for row in group["rows"]]) for group in groups] == [
        ("phi", ["m-2", "m-1", "phi@champion"]),
        ("Not registered", ["m-3"]),
    ]
    new, old, alias = groups[0]["rows"]
    assert new["facts"] == ["ONNX", "2.7 GB", "8k context"]
    assert new["created"] == "2024-05-17T09:30:00+00:00"
    assert [chip["text"] for chip in old["chips"]] == ["v1", "champion"]
    assert alias["model"] == "m-1"
    assert alias_keys(VERSIONS) == ["phi@champion"]


def test_a_store_without_a_registry_has_one_group_without_a_name() -> None:
    assert [group["name"] for group in describe_menu("en", [OLD], {})] == [""]
    assert describe_menu("en", [], {}) == []


def test_an_unreachable_server_shows_the_reason_even_without_a_model() -> None:
    entry = replace(
        ENTRY, model_id="remote:lab/m", name="lab/m", contract="remote", engine="remote", host="lab.example"
    )
    reasons = {server_title("lab", "lab.example"): "No key.", server_title("gone", "[::1]:1"): "No answer."}
    with_model, without_models = describe_menu(
        "en", [entry], {}, Problems(unreachable={entry.model_id}, servers=reasons)
    )

    assert (with_model["name"], with_model["problem"]) == ("lab · lab.example", "No key.")
    assert [(row["name"], row["chips"]) for row in with_model["rows"]] == [
        ("m", [{"text": "unreachable", "kind": "warn"}])
    ]
    assert (without_models["name"], without_models["rows"], without_models["problem"]) == (
        "gone · [::1]:1",
        [],
        "No answer.",
    )


def test_the_speed_is_the_median_of_the_last_answers() -> None:
    def turn(model_id: str, rate: float | None) -> TurnMetrics:
        return TurnMetrics("c", "t", 0.0, "phi", model_id, "stop", None, None, None, rate)

    slow, fast = [turn("m-1", 1.0)] * 30, [turn("m-1", 50.0)] * 20
    assert measure_speeds([*slow, *fast, turn("m-2", None), turn("", 7.0)]) == {"m-1": 50.0}
