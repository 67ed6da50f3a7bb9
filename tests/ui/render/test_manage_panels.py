"""What the panels say of a model that is being added."""

import pytest

from phi3_ui.errors import UserError
from phi3_ui.provision.jobs import JobState
from phi3_ui.provision.recipes import StageName
from phi3_ui.ui.render import panels

STAGES: tuple[StageName, ...] = ("fetch_onnx", "log_onnx")


def test_nothing_is_said_where_nothing_is_added() -> None:
    assert panels.job_panel("en", None, "") == ""


def test_a_download_says_how_many_bytes_of_how_many() -> None:
    panel = panels.job_panel("en", JobState("running", STAGES, 0, 500_000_000, 2_000_000_000), "phi-3-mini-4k")

    assert "phi-3-mini-4k" in panel
    assert "Step 1 of 2 · Fetching the ONNX model from the hub · 500.0 MB of 2,000.0 MB · 20 %" in panel
    assert 'value="20"' in panel


def test_other_stages_are_not_counted_in_bytes() -> None:
    panel = panels.job_panel("ro", JobState("running", STAGES, 1, 1, 2), "x")

    assert "Pasul 2 din 2 · Se înregistrează modelul ONNX · 91 %" in panel


@pytest.mark.parametrize("phase", ["failed", "cancelled"])
def test_an_end_that_was_not_wanted_says_the_cure(phase: str) -> None:
    state = JobState(phase, STAGES, error=UserError("invalid_source", value="<b>x</b>"))  # type: ignore[arg-type]
    panel = panels.job_panel("en", state, "x")

    assert "neither a folder" in panel
    assert "<b>x" not in panel
    assert 'role="alert"' in panel


def test_a_wait_for_another_job_is_said() -> None:
    assert "Waiting for another process" in panels.job_panel("en", JobState("waiting"), "x")


def test_the_end_says_where_the_model_is() -> None:
    assert "phi is in the store" in panels.job_panel("en", JobState("done", STAGES), "phi")
