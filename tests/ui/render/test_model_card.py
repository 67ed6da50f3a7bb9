"""The model card: what it shows, and that no value in it is parsed as HTML."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.store.registry.admission import Review
from phi3_ui.store.registry.cards import ModelCard, RegisteredVersion, RunSummary
from phi3_ui.store.registry.doctor import Diagnosis, Finding
from phi3_ui.store.registry.suspects import Suspect
from phi3_ui.store.registry.trust import Inspection
from phi3_ui.ui.render.model_card import Health, render_card
from tests.support.cards import CARD, ENTRY, RUN, WHEN
from tests.support.hostile import hostile_texts, languages
from tests.support.html import ParsedPage


@settings(deadline=None)
@given(languages, st.lists(hostile_texts, min_size=16, max_size=16))
def test_no_value_is_html(language: str, texts: list[str]) -> None:
    def card(values: list[str]) -> ModelCard:
        entry = replace(ENTRY, name=values[0], model_id=values[1], uri=values[2], contract=values[3], flavor=values[4])
        run = RunSummary(
            values[5],
            values[6],
            values[7],
            values[8],
            WHEN,
            {values[9]: values[10]},
            {values[11]: 1.0},
            {values[12]: values[13]},
        )
        return ModelCard(
            entry,
            values[14],
            values[15],
            1,
            {"params": (values[0],)},
            run,
            (RegisteredVersion(values[1], values[2], (values[3],)),),
        )

    page = ParsedPage(render_card(language, card(texts)))

    plain = ParsedPage(render_card(language, card([f"x{number}" for number in range(16)])))
    assert _outline(page) == _outline(plain)
    shown = [text for _, text in page.cells]
    assert set(texts[:14]) - {texts[2], texts[3]} <= {*shown, texts[0]}
    assert texts[0] in page.texts("h2")
    assert f"{texts[14]} · {texts[15]}" in shown
    assert any(text.endswith(f"{texts[2]} @{texts[3]}") for text in shown)


def _outline(page: ParsedPage) -> list[tuple[str, list[str]]]:
    """Return tags and attribute names, without the break opportunities of long names."""
    return [(tag, [name for name, _ in attributes]) for tag, attributes in page.elements if tag != "wbr"]


def test_card_shows_the_model_and_its_run() -> None:
    page = ParsedPage(render_card("en", CARD))

    facts = page.definitions()
    expected = {
        "Model id": "m-1",
        "URI": "models:/m-1",
        "Flavour": "pyfunc",
        "Contract": "prompt",
        "Size": "2.7 GB on disk",
        "Context length": "4,096 tokens",
        "Created": "17 May 2024, 09:30 UTC",
        "inputs": "prompt: string",
        "Run id": "r-1",
        "Experiment": "phi",
        "Status": "FINISHED",
        "precision": "int4",
        "loss": "0.25",
        "team": "nlp",
    }
    assert {name: facts.get(name) for name in expected} == expected
    assert page.texts("h2") == [ENTRY.name]
    assert "Phi 3 Mini · mit" in page.texts("p")
    assert "Not registered." in page.texts("p")
    folds = ["Signature 1 input · 0 params", f"Run {RUN.name}", "Params 1", "Metrics 1", "Tags 1"]
    assert page.texts("summary") == [*folds, "Versions and aliases 0"]
    assert ("data-copy", "m-1") in [pair for _, pairs in page.elements for pair in pairs]


def test_card_without_a_run_explains_it() -> None:
    page = ParsedPage(render_card("en", replace(CARD, run=None)))

    assert "This model was logged outside a run." in page.texts("p")
    assert page.texts("summary") == ["Signature 1 input · 0 params", "Run ", "Versions and aliases 0"]


def test_undeclared_facts_are_left_out() -> None:
    bare = ModelCard(replace(ENTRY, size_bytes=None), "", "", None, {}, None)

    page = ParsedPage(render_card("en", bare))
    assert {"Size", "Context length"}.isdisjoint(page.definitions())
    assert page.texts("summary")[0] == "Signature "


def test_versions_are_listed_under_their_name_with_their_aliases() -> None:
    versions = (
        RegisteredVersion("joker", "3", ("champion", "new")),
        RegisteredVersion("joker", "1", ()),
        RegisteredVersion("other", "2", ("x",)),
    )
    facts = ParsedPage(render_card("ro", replace(CARD, versions=versions))).definitions()

    assert facts["joker"] == "versiunea 3 @champion @new\nversiunea 1"
    assert facts["other"] == "versiunea 2 @x"


_CODE = Inspection("code", (Suspect("<b>.py", "python"), Suspect("MLmodel: code", "code_path")), "0" * 64)


@pytest.mark.parametrize(
    ("review", "trust"),
    [
        (Review(Inspection("data_only", (), ""), is_approved=False), "safe to load: data only"),
        (Review(Inspection("ours", (), ""), is_approved=False), "safe to load: this app’s code"),
        (Review(_CODE, is_approved=True), "runs its own code, as approved"),
        (None, "checked before it is loaded"),
    ],
)
def test_chips_show_whose_code_runs_and_whether_the_files_match(review: Review | None, trust: str) -> None:
    card = replace(CARD, versions=(RegisteredVersion("phi", "2", ("champion",)),))
    healthy = ParsedPage(render_card("en", card, Health(Diagnosis("m-1", (), can_relog=True), review)))
    assert f"v2 · champion {trust} files match " in healthy.texts("p")

    missing = Finding("file_missing", {"file": "MLmodel"})
    damaged = ParsedPage(render_card("en", card, Health(Diagnosis("m-1", (missing,), can_relog=True), review)))
    assert f"v2 · champion {trust} 1 problem " in damaged.texts("p")
    assert any("MLmodel is missing" in text for text in damaged.texts("p"))


@pytest.mark.parametrize("can_approve", [True, False])
def test_a_refused_model_shows_its_code_and_the_remedy_and_is_never_called_healthy(can_approve: bool) -> None:
    health = Health(Diagnosis("m-1", (), can_relog=False), Review(_CODE, is_approved=False), can_approve)
    page = ParsedPage(render_card("en", CARD, health))
    texts = " ".join(text for _, text in page.cells)

    assert "not loaded: brings its own code" in texts
    assert "files match" not in texts
    assert "<b>.py: Python code" in page.texts("p")
    assert "MLmodel: code: adds code to Python’s path" in page.texts("p")
    assert ("with the button below" in texts) is can_approve
    assert ("Trust these files and load" in texts) is can_approve
    assert (f"python -m phi3_ui trust {CARD.entry.model_id} --approve" in texts) is not can_approve
    approved = ParsedPage(
        render_card("en", CARD, Health(health.diagnosis, Review(_CODE, is_approved=True), can_approve))
    )
    assert "any change revokes this" in " ".join(text for _, text in approved.cells)


def test_without_a_model_the_card_asks_to_pick_one() -> None:
    assert ParsedPage(render_card("en", None)).cells == [("p", "Pick a model to see its details.")]


def test_long_names_break_at_underscores_and_ids_can_be_copied() -> None:
    card = str(render_card("en", replace(CARD, run=replace(RUN, metrics={"tokens_per_second": 1.0}))))
    assert "tokens_<wbr>per_<wbr>second" in card
    for copied in (ENTRY.model_id, ENTRY.uri, RUN.run_id):
        assert f'data-copy="{copied}"' in card
