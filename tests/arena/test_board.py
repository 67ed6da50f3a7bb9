"""Leaderboards of stored votes: filters, groups of models, and rounds that do not count."""

from dataclasses import replace

import pytest

from phi3_ui.arena.board import Speed, VoteFilter, build_board
from phi3_ui.chat.comparison import Exclusion, Preference
from phi3_ui.store.conversations.summaries import TurnMetrics
from phi3_ui.store.conversations.votes import StoredVote


def make_vote(
    preference: Preference,
    models: tuple[str, ...] = ("m-1", "m-2"),
    voter: str = "me",
    at: float = 5.0,
    exclusion: Exclusion | None = None,
    question: str = "Why?",
) -> StoredVote:
    answers = tuple(make_metrics(model) for model in models)
    return StoredVote("round", voter, at, question, answers, preference, exclusion, "")


def make_metrics(model_id: str, rate: float | None = None, first: float | None = None) -> TurnMetrics:
    return TurnMetrics("c", "t", 0.0, model_id, model_id, "stop", None, None, first, rate)


def test_excluded_rounds_are_counted_by_reason() -> None:
    board = build_board([make_vote(0), make_vote(0, exclusion="cut"), make_vote("tie", exclusion="cut")])
    assert (board.rounds, board.excluded) == (1, {"cut": 2})
    assert board.leaderboard.wins == {("m-1", "m-2"): 1.0}


@pytest.mark.parametrize(
    ("vote_filter", "rounds"),
    [
        (VoteFilter(), 3),
        (VoteFilter(voters={"me"}), 2),
        (VoteFilter(since=5.0), 2),
        (VoteFilter(until=5.0), 1),
        (VoteFilter(voters={"you"}, since=6.0), 0),
        (VoteFilter(questions={"Why?"}), 2),
    ],
)
def test_a_filter_keeps_votes_by_person_and_time(vote_filter: VoteFilter, rounds: int) -> None:
    votes = [make_vote(0), make_vote(0, voter="you"), make_vote(1, at=4.0, question="How?")]
    assert build_board(votes, vote_filter=vote_filter).rounds == rounds


def test_models_with_the_same_name_are_one_contestant() -> None:
    votes = [make_vote(0, ("phi/1", "demo/1")), make_vote(0, ("phi/2", "demo/1")), make_vote(0, ("phi/1", "phi/2"))]
    board = build_board(votes, lambda model_id: model_id.partition("/")[0])
    assert board.leaderboard.wins == {("phi", "demo"): 2.0}
    assert [one.contestant for one in board.leaderboard.ratings] == ["phi", "demo"]


def test_speeds_are_medians_over_the_answers_of_counted_rounds() -> None:
    def vote(rate: float | None, first: float | None, exclusion: Exclusion | None = None) -> StoredVote:
        answers = (make_metrics("phi/1", rate, first), make_metrics("demo/1"))
        return replace(make_vote(0, exclusion=exclusion), answers=answers)

    board = build_board(
        [vote(10.0, 0.2), vote(30.0, None), vote(50.0, 0.4), vote(9e9, 9e9, "cut")],
        lambda model: model.partition("/")[0],
    )
    assert board.speeds["phi"].tokens_per_second == 30.0
    assert board.speeds["phi"].time_to_first_token == pytest.approx(0.3)
    assert board.speeds["demo"] == Speed(None, None)
