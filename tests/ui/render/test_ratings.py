"""Ratings: how a leaderboard is drawn, and that no value in it is parsed as HTML."""

import re
from dataclasses import replace

from hypothesis import given, settings

from phi3_ui.arena.board import build_board
from phi3_ui.store.conversations.summaries import TurnMetrics
from phi3_ui.store.conversations.votes import StoredVote
from phi3_ui.ui.render.mlflow_links import Link
from phi3_ui.ui.render.ratings import Contestant, Filter, RatedRound, RatingsView, render_ratings
from tests.support.hostile import hostile_texts, languages

_ANSWERS = tuple(TurnMetrics("c", f"t-{key}", 0, key, key, "stop", 1, 2, 0.5, 8.0) for key in ("m-1", "m-2"))
_VOTE = StoredVote("r", "me", 1_715_938_200.0, "Why?", _ANSWERS, 0, None, "")
_LOST, _CUT = replace(_VOTE, preference=1), replace(_VOTE, exclusion="cut")


def make_view(votes: list[StoredVote], text: str = "demo") -> RatingsView:
    rounds = [RatedRound(vote, vote.model_ids, (Link("http://127.0.0.1/t", text, text), None), True) for vote in votes]
    return RatingsView(
        filters=[Filter("ratings_period", text, [("all", text)], "all")],
        board=build_board(votes),
        contestants={"m-1": Contestant(text, text), "m-2": Contestant("other", "")},
        memory={"m-1": 93_000_000},
        rounds=rounds,
        pair=("m-1", "m-2") if votes else None,
        notes=[text],
    )


def test_ranks_intervals_and_position_are_drawn() -> None:
    html = str(render_ratings("ro", make_view([*[_VOTE] * 40, *[_LOST] * 10, _CUT])))
    assert "Contează 50 de runde. 1 nu contează: un răspuns a fost întrerupt la o limită (1)." in html
    assert re.findall(r"<tr><td>(\d)</td>", html) == ["1", "2"]
    first, last = (
        [float(value) for value in found]
        for found in re.findall(r'<td class="axis">.*?left: (\S+?)%; width: (\S+?)%.*?left: (\S+?)%', html)
    )
    for start, width, mark in (first, last):
        assert 0 <= start < mark < start + width <= 100
    assert first[2] > last[2]
    assert "80\xa0%" in html.partition("Contează poziția?")[2]
    assert "pare să influențeze voturile" in html
    assert "nu contează" in html
    assert render_ratings("en", make_view([*[_VOTE] * 5, *[_LOST] * 5])).count("too few votes") == 2
    assert "all are ties" in render_ratings("en", make_view([replace(_VOTE, preference="tie")]))
    assert "No vote counts here yet." in render_ratings("en", make_view([_CUT]))
    assert "Select a cell" not in render_ratings("en", make_view([]))


@settings(deadline=None)
@given(languages, hostile_texts)
def test_no_value_is_html(language: str, text: str) -> None:
    def read(value: str) -> str:
        vote = replace(_VOTE, question=value, reason=value)
        html = str(render_ratings(language, make_view([*[vote] * 20, _LOST], value)))
        return re.sub(r'"[^"<>]*"|>[^<>]*<', '""', html)

    assert re.findall(r"<\w+", read(text)) == re.findall(r"<\w+", read("a"))
