"""Normalization of texts of any length."""

import time
import unicodedata
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.chat.normalization import normalize
from phi3_ui.store.conversations.search_text import fold_text

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


@settings(deadline=None)
@given(
    st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]),
    st.lists(st.sampled_from("aé\u0301\u0327\u0315ﬁ½ 漢한"), max_size=30),
)
def test_the_result_is_that_of_the_whole_text(form: Form, characters: list[str]) -> None:
    text = f"{''.join(characters)}x" * 150  # more than one piece
    assert normalize(form, text) == unicodedata.normalize(form, text)


@pytest.mark.parametrize("text", ["a" + "\u0315" * 200_000 + "\u0327" * 200_000, "\u0315\u0327" * 200_000])
def test_combining_marks_take_little_time(text: str) -> None:
    started = time.process_time()
    assert len(normalize("NFKD", text)) == len(text)
    fold_text(text)
    assert time.process_time() - started < 10
