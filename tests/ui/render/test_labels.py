"""Names of models, and the chips beside them."""

from dataclasses import replace

from phi3_ui.store.registry.cards import RegisteredVersion
from phi3_ui.ui.render.labels import (
    answer_label,
    context_label,
    picker_label,
    short_name,
    speed_label,
    split_answer_label,
    version_label,
)
from tests.support.cards import ENTRY


def test_a_name_is_shown_without_the_engine_only_if_the_engine_is_beside_it() -> None:
    onnx = replace(ENTRY, name="phi-onnx")
    assert answer_label("ro", replace(ENTRY, engine="transformers")) == "phi-3-mini-4k · Pipeline"
    assert short_name(onnx) == "phi"
    assert short_name(replace(onnx, engine="python")) == "phi-onnx"
    assert short_name(replace(onnx, name="-onnx")) == "-onnx"


def test_labels_distinguish_models_of_the_same_name() -> None:
    assert picker_label("en", ENTRY) == "phi-3-mini-4k · ONNX · 17 May 2024, 09:30"
    assert picker_label("ro", ENTRY) == "phi-3-mini-4k · ONNX · 17 mai 2024, 09:30"
    assert answer_label("ro", replace(ENTRY, engine="transformers")) == "phi-3-mini-4k · Pipeline"


def test_chips_are_short_and_follow_the_language() -> None:
    assert version_label(RegisteredVersion("phi", "12", ("champion", "new"))) == "v12 · champion · new"
    assert [context_label("en", tokens) for tokens in (512, 8192, 131072)] == [
        "512 context",
        "8k context",
        "128k context",
    ]
    assert speed_label("en", 98.4) == "98 tokens/s"
    assert speed_label("ro", 9.26) == "9,3 tokeni/s"


def test_the_label_of_an_answer_has_a_name_and_possibly_an_engine() -> None:
    assert split_answer_label(answer_label("en", ENTRY)) == ("phi-3-mini-4k", "ONNX")
    assert split_answer_label("my · model · Python") == ("my · model", "Python")
    assert split_answer_label("gpt-4o") == ("gpt-4o", "")
