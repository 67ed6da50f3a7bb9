"""Lone surrogates become U+FFFD, and surrogate pairs their character."""

import time

from hypothesis import example, given, settings
from hypothesis import strategies as st

from phi3_ui.chat.surrogates import replace_surrogates


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("aé😀\0\n\ud800\ud83d\udbff\udc00\ude00\udfff\ue000")))
@example("\ud83d\ude00")
@example("\ud800\ud83d\ude00\udc00")
def test_surrogates_are_replaced_as_by_the_codec(text: str) -> None:
    assert replace_surrogates(text) == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def test_a_text_of_nothing_else_takes_less_time_than_the_codec() -> None:
    text, start = "\ud83d" * 500_000, time.process_time()
    replace_surrogates(text)
    end = time.process_time()
    text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # with the interpreter's lock held all the time
    assert end - start < time.process_time() - end
