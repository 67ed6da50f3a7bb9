"""Names of models."""

from dataclasses import replace

from phi3_ui.ui.render.labels import answer_label, picker_label
from tests.support.cards import ENTRY


def test_labels_distinguish_models_of_the_same_name() -> None:
    assert picker_label("en", ENTRY) == "phi-3-mini-4k · ONNX · May 17, 2024, 09:30"
    assert picker_label("ro", ENTRY) == "phi-3-mini-4k · ONNX · 17 mai 2024, 09:30"
    assert answer_label("ro", replace(ENTRY, engine="transformers")) == "phi-3-mini-4k · Pipeline"
