"""The cards of weights that can be added."""

from phi3_ui.ui.render.model_presets import describe_presets


def test_every_preset_shows_its_needs_and_licence() -> None:
    *presets, own_weights = describe_presets("en")

    assert presets[0] == {
        "key": "demo",
        "title": "SmolLM2 135M Instruct",
        "about": "HuggingFaceTB/SmolLM2-135M-Instruct · apache-2.0",
        "needs": "Download 93 MB · disk 920 MB · memory from ≈ 700 MB",
    }
    assert all(card["needs"] for card in presets)
    assert (own_weights["key"], own_weights["needs"]) == ("own", "")
    assert "Descărcare ≈ 10,4 GB · disc ≈ 10,4 GB · memorie de la ≈" in describe_presets("ro")[1]["needs"]
