"""The model card: what it shows, and that no value in it is ever HTML."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.store.registry.cards import ModelCard, RegisteredVersion, RunSummary
from phi3_ui.ui.render.model_card import render_card
from tests.support.cards import CARD, ENTRY, RUN, WHEN
from tests.support.hostile import hostile_texts, languages
from tests.support.html import Page


@settings(deadline=None)
@given(languages, st.lists(hostile_texts, min_size=16, max_size=16))
def test_no_value_is_html(language: str, texts: list[str]) -> None:
    def card(t: list[str]) -> ModelCard:
        entry = replace(ENTRY, name=t[0], model_id=t[1], uri=t[2], contract=t[3], flavor=t[4])
        run = RunSummary(t[5], t[6], t[7], t[8], WHEN, {t[9]: t[10]}, {t[11]: 1.0}, {t[12]: t[13]})
        return ModelCard(entry, t[14], t[15], 1, {"params": (t[0],)}, run, (RegisteredVersion(t[1], t[2], (t[3],)),))

    page = Page(render_card(language, card(texts)))

    plain = Page(render_card(language, card([f"x{number}" for number in range(16)])))
    assert page.elements == plain.elements
    shown = set(page.texts("dt", "dd"))
    version_texts = {texts[2], texts[3]}
    assert set(texts) - version_texts <= shown
    assert any(text.endswith(f"{texts[2]} @{texts[3]}") for text in shown)


def test_card_shows_the_model_and_its_run() -> None:
    page = Page(render_card("en", CARD))

    facts = page.facts()
    expected = {
        "Weights": "Phi 3 Mini",
        "Model id": "m-1",
        "URI": "models:/m-1",
        "Flavour": "pyfunc",
        "Contract": "prompt",
        "Size": "2,723.4 MB",
        "Context length": "4,096 tokens",
        "Created": "May 17, 2024, 09:30 UTC",
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


def test_card_without_a_run_says_so() -> None:
    page = Page(render_card("en", replace(CARD, run=None)))

    assert "This model was logged outside a run." in page.texts("p")
    assert {"Params", "Metrics", "Tags"}.isdisjoint(page.texts("summary"))


def test_undeclared_facts_are_left_out() -> None:
    bare = ModelCard(replace(ENTRY, size_bytes=None), "", "", None, {}, None)

    assert {"Size", "Context length", "Licence", "Weights"}.isdisjoint(Page(render_card("en", bare)).facts())


def test_versions_are_listed_under_their_name_with_their_aliases() -> None:
    versions = (
        RegisteredVersion("joker", "3", ("champion", "new")),
        RegisteredVersion("joker", "1", ()),
        RegisteredVersion("other", "2", ("x",)),
    )
    facts = Page(render_card("ro", replace(CARD, versions=versions))).facts()

    assert facts["joker"] == "versiunea 3 @champion @new\nversiunea 1"
    assert facts["other"] == "versiunea 2 @x"


def test_no_model_asks_to_pick_one() -> None:
    assert Page(render_card("en", None)).cells == [("p", "Pick a model to see its details.")]
