"""Blind rounds: random positions, votes on pairs, and rounds that do not count."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi3_ui.arena.rounds import Round, count_votes, draw_places, find_exclusion
from phi3_ui.arena.votes import Vote
from phi3_ui.chat.comparison import Exclusion
from phi3_ui.chat.conversation import Answer

PARIS = Answer("Model", "Paris.", finish_reason="stop")
ROUND = Round(
    "What is the capital of France?",
    ("b", "a"),
    {"a": PARIS, "b": PARIS},
    {"a": ("phi-3-mini-4k", "Phi-3 mini"), "b": ("smollm2-135m-onnx",)},
)


def with_answer(answer: Answer, question: str = ROUND.question) -> Round:
    return replace(ROUND, question=question, answers={"a": answer, "b": PARIS})


def test_a_round_of_complete_answers_counts() -> None:
    assert find_exclusion(ROUND) is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (replace(PARIS, error=("load_failed", {})), "failed"),
        (replace(PARIS, finish_reason="cancelled"), "stopped"),
        (replace(PARIS, finish_reason="timeout"), "cut"),
        (replace(PARIS, finish_reason="length"), "cut"),
        (replace(PARIS, text="I am Phi-3, and it is Paris."), "names_model"),
        (replace(PARIS, text="As a PHI model: Paris."), "names_model"),
        (replace(PARIS, text="Phi3: Paris."), "names_model"),
    ],
)
def test_incomplete_or_revealing_rounds_do_not_count(answer: Answer, reason: Exclusion) -> None:
    assert find_exclusion(with_answer(answer)) == reason


def test_a_round_with_an_answer_in_progress_does_not_count() -> None:
    assert find_exclusion(replace(ROUND, answers={"a": PARIS})) == "unfinished"


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("A mini guide: 3 tips.", ROUND.question),
        ("Phi is 1.618.", "What is phi?"),
        ("Philosophy began in Greece.", ROUND.question),
        ("SmolLM2 is a model of others.", ROUND.question),
    ],
)
def test_generic_words_do_not_identify_a_model(text: str, question: str) -> None:
    assert find_exclusion(with_answer(replace(PARIS, text=text), question)) is None


def test_a_preference_is_a_vote_on_each_pair_with_the_best_one() -> None:
    three = ("a", "b", "c")
    assert count_votes(three, 1) == [Vote("a", "b", "right"), Vote("b", "c", "left")]
    assert count_votes(three, "tie") == [Vote("a", "b", "tie"), Vote("a", "c", "tie"), Vote("b", "c", "tie")]
    with pytest.raises(ValueError, match="no position 3"):
        count_votes(three, 3)


def test_every_order_of_positions_is_equally_likely() -> None:
    rng = random.Random(1)
    seen = Counter(draw_places(["a", "b", "c"], rng) for _ in range(6000))
    assert len(seen) == 6
    assert min(seen.values()) > 850


@given(st.text(max_size=60), st.lists(st.text(max_size=20), max_size=3))
def test_any_text_and_names_can_be_judged(text: str, names: list[str]) -> None:
    judged = replace(with_answer(replace(PARIS, text=text)), names={"a": tuple(names)})
    assert find_exclusion(judged) in (None, "names_model")
