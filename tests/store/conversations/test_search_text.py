"""The search ignores case, accents, Unicode form and width."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi3_ui.store.conversations.index import ConversationIndex
from phi3_ui.store.conversations.operations import TagChange
from phi3_ui.store.conversations.search_text import fold_text
from phi3_ui.store.conversations.traces import TITLE_TAG
from tests.store.conversations.chats import ME, make_conversation, make_record


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("istanbul", "İSTANBUL"),
        ("İstanbul", "istanbul"),
        ("ısparta", "ISPARTA"),
        ("isparta", "ıSPARTA"),
        ("strasse", "Straße"),
        ("STRAẞE", "straße"),
        ("cafe", "café"),
        ("café", "cafe\u0301"),
        ("café", "CAFE"),
        ("tara", "ţară"),
        ("țară", "ţară"),
        ("lodz", "Łódź"),
        ("oresund", "Øresund"),
        ("phi3", "Ｐｈｉ３"),
        ("ガ", "ｶﾞ"),
        ("file", "ﬁle"),
        ("σίσυφος", "ΣΙΣΥΦΟΣ"),
        ("ельник", "Ёльник"),
        ("한국", unicodedata.normalize("NFD", "한국")),
        ("مدرسة", "مَدرَسة"),
        ("❤", "❤\ufe0f"),
        ("hyphenation", "hyphen\u00adation"),
        ("ab", "a\u034fb"),
    ],
)
def test_equal_letters_are_found(query: str, text: str) -> None:
    assert fold_text(query) in fold_text(f"some {text} here")


@pytest.mark.parametrize(
    ("query", "text"), [("a", "б"), ("कु", "कि"), ("คุ", "คู"), ("ກຸ", "ກູ"), ("ཀི", "ཀུ"), ("x", "×"), ("1", "l")]
)
def test_different_letters_are_not_found(query: str, text: str) -> None:
    assert fold_text(query) not in fold_text(text)


@given(st.text(), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_neither_case_nor_unicode_form_matters(text: str, form: str) -> None:
    folded = fold_text(text)

    assert fold_text(folded) == folded
    assert fold_text(unicodedata.normalize(form, text)) == folded  # type: ignore[arg-type]  # one of the four forms
    assert [fold_text(char.upper()) for char in text] == [fold_text(char) for char in text]


def test_titles_and_texts_are_searched_alike() -> None:
    index = ConversationIndex()
    record = make_record("c", make_conversation("Gdzie jest Łódź?", "Ｉｎ ＰＯＬＡＮＤ."))
    index.apply(record)
    index.apply(TagChange(ME, "c", record.turn.id, TITLE_TAG, "İzmir gezisi"))

    def found(query: str) -> bool:
        return bool(index.list_conversations(fold_text(query).split()))

    assert all(map(found, ["izmir", "IZMIR gezısı", "lodz poland", "ŁÓDŹ", "gdzie\u3000izmir", ""]))
    assert not any(map(found, ["ankara", "izmir ankara"]))

    index.apply(TagChange(ME, "c", record.turn.id, TITLE_TAG, ""))

    assert not found("izmir")
    assert found("gdzie")
