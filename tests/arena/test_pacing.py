"""The display of answers in progress does not reveal which model is faster."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.arena.pacing import hold_back

WORDS = st.lists(st.text("abc\n ", min_size=1, max_size=9), max_size=40)


def test_the_slower_answer_sets_the_pace() -> None:
    fast, slow = "The capital of France is Paris, on the Seine.", "It is Paris, in the very north."

    assert hold_back([fast, slow]) == ["The capital of France", "It is Paris, in the"]
    assert hold_back([fast, "It"]) == ["", ""]
    assert hold_back([]) == []


def test_text_without_spaces_is_cut_anywhere() -> None:
    assert hold_back(["巴" * 30, "黎" * 50]) == ["巴" * 24, "黎" * 24]


@settings(deadline=None)
@given(WORDS, WORDS)
def test_an_answer_shows_the_same_whoever_is_faster(left: list[str], right: list[str]) -> None:
    """The text shown on a side depends on the progress of the slower side, never on which side that is."""
    lefts, rights = (
        ["".join(left[:n]) for n in range(len(left) + 1)],
        ["".join(right[:n]) for n in range(len(right) + 1)],
    )
    for one, other in itertools.product(lefts, rights):
        shown = hold_back([one, other])
        length = min(len(one), len(other))
        assert shown == hold_back(["".join(left)[:length], "".join(right)[:length]])
        assert all(text.startswith(part) for text, part in zip((one, other), shown, strict=True))
