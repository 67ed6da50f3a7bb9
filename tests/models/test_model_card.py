"""Parsing a model's README as a card."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.model_card import Card, read_model_card

# In the style of the Phi family's cards.
_PHI = """---
license: mit
license_link: https://huggingface.co/microsoft/Phi-3-mini-4k-instruct/resolve/main/LICENSE
language:
- en
pipeline_tag: text-generation
tags:
- nlp
- code
widget:
- messages:
  - role: user
    content: Can you provide ways to eat combinations of bananas and dragonfruits?
---
🎉 **Phi-3.5**: [[mini-instruct]](https://huggingface.co/a); [[MoE-instruct]](https://huggingface.co/b)

## Model Summary

The *Phi-3-Mini-4K-Instruct* is a **3.8B** parameters, lightweight model
trained with the [Phi-3 datasets](https://huggingface.co/c) &amp; `more`<br>.

It belongs to the Phi-3 family.
"""


def _card(folder: Path, readme: str) -> Card:
    (folder / "README.md").write_text(readme, encoding="utf-8")
    return read_model_card(folder)


def test_a_card_describes_the_model(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("MIT License")

    assert _card(tmp_path, _PHI) == Card(
        title="",
        summary="The Phi-3-Mini-4K-Instruct is a 3.8B parameters, lightweight model trained with the Phi-3 datasets & more.",
        license="mit",
        license_file="LICENSE",
        tags=("nlp", "code"),
    )


def test_the_title_is_the_first_top_level_heading(tmp_path: Path) -> None:
    text = "## Before\n\n> # Quoted\n\n# <img src=x> The `Tiny` *model*\n\n# Another\n"

    assert _card(tmp_path, text).title == "The Tiny model"


@pytest.mark.parametrize("readme", [None, "", "---\n---\n", "---\n"])
def test_a_card_without_text_is_empty(tmp_path: Path, readme: str | None) -> None:
    assert (read_model_card(tmp_path) if readme is None else _card(tmp_path, readme)) == Card()


def test_only_paragraphs_make_a_summary(tmp_path: Path) -> None:
    other = [
        "- a list whose points are as long as any sentence would be",
        "> a quotation that is as long as any sentence would be",
        "```\na program that is as long as any sentence would be\n```",
        "<p align=center>HTML that is as long as any sentence would be</p>",
        "| a table | that is as long as any sentence |\n|---|---|\n| would be | too |",
        "![a picture with a text that is as long as any sentence](x.png)",
        "[a link with a text that is as long as any sentence would be](y)",
    ]

    assert _card(tmp_path, "\n\n".join([*other, "This one says what the model is, at last."])).summary == (
        "This one says what the model is, at last."
    )


def test_a_short_paragraph_is_used_if_there_is_no_longer_one(tmp_path: Path) -> None:
    assert _card(tmp_path, "# T\n\n![x](y)\n\nSmall, but good.\n\nTiny.").summary == "Small, but good."


def test_a_long_paragraph_is_cut_between_words(tmp_path: Path) -> None:
    summary = _card(tmp_path, "words " * 200).summary

    assert 490 < len(summary) <= 500
    assert summary.endswith("words …")


@pytest.mark.parametrize(
    ("front", "license_", "tags"),
    [
        ("license: other\nlicense_name: llama3", "llama3", ()),
        ("license: other", "", ()),
        ("license: [mit, apache-2.0]\ntags: chat", "mit, apache-2.0", ("chat",)),
        ("license: 3\ntags: [1, null, ' a ', '']", "", ("a",)),
        ("license: {a: b", "", ()),
        ("date: 2024-13-45\nlicense: mit", "", ()),
        ("- a list", "", ()),
    ],
)
def test_irregular_front_matter_is_parsed(tmp_path: Path, front: str, license_: str, tags: tuple[str, ...]) -> None:
    card = _card(tmp_path, f"---\n{front}\n---\n# Title")

    assert (card.title, card.license, card.tags) == ("Title", license_, tags)


@given(st.text())
def test_any_text_is_a_card(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("card")
    (folder / "README.md").write_bytes(f"---\nlicense: mit\n---\n{text}".encode("utf-8", "surrogatepass"))

    card = read_model_card(folder)

    assert len(card.summary) <= 500
    assert "\n" not in card.summary
    assert card.license == "mit"
