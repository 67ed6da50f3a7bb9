"""The line below the message box about the demo model."""

from dataclasses import replace

from phi3_ui.ui.render.demo_hint import render_demo_hint
from tests.support.cards import ENTRY

DEMO = replace(ENTRY, preset="demo")


def test_only_the_demo_model_has_a_hint() -> None:
    assert render_demo_hint("en", replace(ENTRY, preset="phi-3-mini-4k"), True) == ""
    assert render_demo_hint("en", replace(ENTRY, preset=None), True) == ""
    hint = render_demo_hint("en", DEMO, True)
    assert "SmolLM2 135M Instruct is a demo model and is often wrong." in hint
    assert "Get Phi-3 mini 4K Instruct (≈ 10.4 GB)</button>" in hint
    assert "10,4 GB" in render_demo_hint("ro", DEMO, True)


def test_no_model_is_offered_if_models_may_not_be_added() -> None:
    assert "button" not in render_demo_hint("en", DEMO, False)
