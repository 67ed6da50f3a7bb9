"""Word-level diff: both texts can be restored, common words are found, and long texts are fast."""

import random
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phi3_ui.chat import word_diff as module
from phi3_ui.chat.word_diff import DiffPiece, word_diff

_texts = st.lists(st.sampled_from(["the", "cat", "sat", ".", ",", " ", "  ", "\n", "ă", "🙂", "<b>"]), max_size=30).map(
    "".join
) | st.text(max_size=30)


def _side(pieces: list[DiffPiece], kind: str) -> str:
    return "".join(text for piece, text in pieces if piece in ("same", kind))


def _check(left: str, right: str) -> list[DiffPiece]:
    pieces = word_diff(left, right)
    assert _side(pieces, "only_left") == left
    assert _side(pieces, "only_right") == right
    assert all(text for _, text in pieces)
    assert all(one != other for (one, _), (other, _) in pairwise(pieces))
    return pieces


@settings(deadline=None)
@given(_texts, _texts)
def test_the_pieces_restore_both_texts(left: str, right: str) -> None:
    _check(left, right)


@settings(deadline=None)
@given(_texts, _texts)
def test_the_pieces_restore_both_texts_when_compared_between_anchors(left: str, right: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MAX_PRODUCT", 2)
        _check(left, right)


@given(_texts)
def test_equal_texts_are_one_piece(text: str) -> None:
    assert word_diff(text, text) == ([("same", text)] if text else [])


@pytest.mark.parametrize(
    ("left", "right", "pieces"),
    [
        ("", "new", [("only_right", "new")]),
        ("old", "", [("only_left", "old")]),
        (
            "the cat sat",
            "the dog sat",
            [("same", "the"), ("only_left", " cat"), ("only_right", " dog"), ("same", " sat")],
        ),
        ("a b.", "a b!", [("same", "a b"), ("only_left", "."), ("only_right", "!")]),
        ("a b", "a  b", [("same", "a"), ("only_left", " "), ("only_right", "  "), ("same", "b")]),
        ("a b", "a b\n", [("same", "a b"), ("only_right", "\n")]),
        ("one two three", "one three", [("same", "one"), ("only_left", " two"), ("same", " three")]),
    ],
)
def test_only_differences_are_marked(left: str, right: str, pieces: list[DiffPiece]) -> None:
    assert word_diff(left, right) == pieces


def _words(count: int, vocabulary: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [f"w{draw.randrange(vocabulary)}" for _ in range(count)]


def test_few_changes_in_a_long_text_are_the_only_ones_found() -> None:
    words = [f"{word}-{at}" for at, word in enumerate(_words(10_000, 500, 1))]
    changed = words.copy()
    for at in (3, 5000, 5001, 9999):
        changed[at] = "other"

    pieces = _check(" ".join(words), " ".join(changed))

    assert [text for kind, text in pieces if kind == "only_right"].count(" other") >= 2
    assert len("".join(text for kind, text in pieces if kind != "same")) < 200


_ODD = " ".join(f"x{at}" for at in range(10_000))
_LONG = {
    "one word again and again": ("a " * 10_000, "a " * 9_000 + "b " * 1_000),
    "two texts of few words": (" ".join(_words(10_000, 50, 1)), " ".join(_words(10_000, 50, 2))),
    "two texts of many words": (" ".join(_words(10_000, 5_000, 1)), " ".join(_words(10_000, 5_000, 2))),
    "every second word another": (_ODD, " ".join(f"x{at // 2}" if at % 2 else f"y{at}" for at in range(10_000))),
    "backwards": (_ODD, " ".join(f"x{at}" for at in reversed(range(10_000)))),
    "signs only": ("." * 10_000, "!" * 5_000 + "." * 5_000),
    "no space": ("a" * 60_000, "b" * 60_000),
}


@pytest.mark.parametrize("name", _LONG)
def test_ten_thousand_words_are_compared_within_seconds(name: str) -> None:
    left, right = _LONG[name]
    started = time.thread_time()  # excludes other processes

    _check(left, right)

    assert time.thread_time() - started < 1.5


def test_many_stretches_of_repeated_words_take_little_time() -> None:
    """Each of the 200 takes difflib up to a second: its time is cubic if all words are equal."""
    left, right = ("".join(f"{words * 80} mark{n} " for n in range(200)) for words in ("a a ", "a b "))
    started = time.process_time()
    _check(left, right)
    assert time.process_time() - started < 60  # 2 s, and 8 s under coverage
