"""Ratings: whose votes a user sees, what a contestant is, the rounds behind the leaderboard, and the export."""

import base64
import json
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from phi3_ui.chat.comparison import Preference, RoundPlace
from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.types import Message
from phi3_ui.errors import UserError
from phi3_ui.evaluation.prompt_set import PromptRecord, PromptSet
from phi3_ui.store.conversations.operations import VoteRecord
from phi3_ui.store.conversations.summaries import TurnMetrics
from phi3_ui.store.conversations.votes import StoredVote, VoteReader
from phi3_ui.store.registry.cards import RegisteredVersion
from phi3_ui.ui.handlers.conversations import Action
from phi3_ui.ui.handlers.ratings import RatingsController
from tests.ui.handlers.doubles import TIMEOUT, App, Gate

OTHER_USER = "visitor-you"
DAY = 86_400


def make_vote(
    voter: str, preference: Preference, models: tuple[str, ...] = ("m-1", "m-2"), seconds_ago: float = 0
) -> StoredVote:
    answers = tuple(
        TurnMetrics(f"chat of {voter}", f"t-{model}", 0, f"name of {model} · Python", model, "stop", 1, 2, 0.5, 8.0)
        for model in models
    )
    return StoredVote("r", voter, time.time() - seconds_ago, f"asked by {voter}", answers, preference, None, "")


class RatingsApp(App):
    """The handlers with the votes of two users."""

    def __init__(self) -> None:
        super().__init__()
        RatingsController(self.page, self.services, self.conversations)
        self.store.history.own_votes = [
            *[make_vote(self.session.user_id, 0)] * 30,
            *[make_vote(self.session.user_id, 1)] * 20,
            make_vote(self.session.user_id, 0, seconds_ago=3 * DAY),
            make_vote(self.session.user_id, 0, ("m-1", "m-3"), seconds_ago=40 * DAY),
        ]
        self.versions: dict[str, Any] = {}
        self.catalogue.list_versions = lambda: self.versions  # type: ignore[method-assign]

    def perform(self, name: str, value: str = "") -> object:
        return self.conversations.perform(self.session, Action(name, value))[self.page.ratings.view]

    def act(self, name: str, value: str = "") -> str:
        return str(self.perform(name, value))


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> RatingsApp:
    app = RatingsApp()
    votes = [make_vote(OTHER_USER, 1)] * 7
    monkeypatch.setattr(VoteReader, "list_votes", lambda _: [*votes, *app.store.history.own_votes])
    app.act("ratings")
    return app


def count_votes(html: str) -> list[str]:
    return [cell.partition("<")[0] for cell in html.split('data-name="Votes">')[1:]]


def test_a_user_sees_their_own_votes_and_the_sum_of_all(app: RatingsApp) -> None:
    own_view = app.act("ratings")
    assert "52 rounds count." in own_view
    assert count_votes(own_view) == ["52", "51", "1"]
    assert own_view.count("too few votes") == 1
    assert OTHER_USER not in own_view
    all_view = app.act("ratings_person", "all")
    assert "59 rounds count." in all_view
    assert count_votes(all_view) == ["59", "58", "1"]
    assert OTHER_USER not in all_view, "neither the voters nor their questions are shown"
    assert "Only your own rounds are listed." in all_view
    assert "59 rounds" not in app.act("ratings_person", OTHER_USER), "another user's votes alone are not shown"


def test_the_administrator_sees_whose_votes_they_are(app: RatingsApp) -> None:
    app.services.settings.is_single_user = True  # type: ignore[misc]  # a stand-in
    RatingsController(app.page, app.services, app.conversations)
    app.act("ratings")
    assert f'<option value="{OTHER_USER}"' in app.act("ratings_person", "all")
    other_view = app.act("ratings_person", OTHER_USER)
    assert "7 rounds count." in other_view
    assert f"asked by {OTHER_USER}" in other_view
    assert f'value="chat of {OTHER_USER}"' not in other_view, "another user's chat cannot be opened"


def test_votes_are_filtered_by_time_and_models_grouped(app: RatingsApp) -> None:
    assert "50 rounds count." in app.act("ratings_period", "day")
    assert "51 rounds count." in app.act("ratings_period", "week")
    assert "52 rounds count." in app.act("ratings_period", "ever")
    app.versions = {
        "m-2": (RegisteredVersion("phi", "1", ()),),
        "m-3": (RegisteredVersion("phi", "2", ("champion",)),),
    }
    by_version = app.act("ratings")
    assert "v2 · champion" in by_version
    grouped = app.act("ratings_grouping", "registered")
    assert count_votes(grouped) == ["52", "52"]
    assert grouped.count('<th scope="row">phi</th>') == 1


def test_votes_are_filtered_by_the_questions_of_a_prompt_set(app: RatingsApp) -> None:
    unmanaged_view = app.act("ratings")
    assert "All questions" not in unmanaged_view, "prompt sets require permission to manage"
    assert 'aria-disabled="true" title="Evaluations are disabled on this server.' in unmanaged_view
    record = PromptRecord((Message("user", f"asked by {OTHER_USER}"),))
    services = cast(Any, app.services)
    services.settings.manage = True
    services.prompt_sets = SimpleNamespace(
        list_sets=lambda: [SimpleNamespace(id="s-1", name="mine")],
        load=lambda set_id: PromptSet(set_id, "mine", 1, (record,)),
    )
    RatingsController(app.page, app.services, app.conversations)
    app.act("ratings_person", "all")
    assert "7 rounds count." in app.act("ratings_set", "s-1")
    managed_view = app.act("ratings_set", "another")
    assert "59 rounds count." in managed_view
    assert "aria-disabled" not in managed_view


def test_the_rounds_of_a_pair_are_listed(app: RatingsApp) -> None:
    app.act("ratings")
    assert app.act("ratings_pair", "0-2").count("<li>") == 1
    assert "The newest 50 are listed." in app.act("ratings_pair", "")
    for value in ("0-0", "0-9", "x", "1", "0-1-2"):
        assert "Show all rounds" not in app.act("ratings_pair", value)
    assert "93 MB" in app.act("ratings")
    assert app.act("close_ratings") == ""


def test_models_of_the_same_name_are_distinguished(app: RatingsApp) -> None:
    votes = [make_vote("me", 0, ("m-1", "m-1-again"))]
    votes = [*votes, *[make_vote("me", 0, ("m-1-again", "m-1"))]]
    for vote in votes:
        for answer in vote.answers:
            object.__setattr__(answer, "model", "demo · Python")
    app.store.history.own_votes = votes
    html = app.act("ratings")
    assert "demo (m-1)" in html
    assert "demo (m-1-again)" in html


def test_all_votes_are_saved(app: RatingsApp) -> None:
    conversation = Conversation()
    for position in (0, 1):
        request = TurnRequest(1.0, f"m-{position}", round=RoundPlace("r", position, 2, is_blind=True))
        answer = Answer(f"demo-{position}", f"Because {position}.", finish_reason="stop")
        conversation = Conversation(conversation.tree).with_question("Why?", request).with_answer(answer)
    chat_id = f"chat of {app.session.user_id}"
    app.store.history.stored[chat_id] = conversation
    turn_ids = tuple(turn.id for turn in conversation.tree)
    app.store.history.votes.append(VoteRecord(app.session.user_id, chat_id, turn_ids, 1, 2.0, None, "Shorter."))
    updates = app.conversations.perform(app.session, Action("ratings_save", ""))
    (line,) = base64.b64decode(json.loads(updates[app.page.export.download])["content"]).decode().splitlines()
    saved = json.loads(line)
    assert (saved["preference"], saved["reason"], saved["answers"][1]["answer"]) == (1, "Shorter.", "Because 1.")

    app.store.history.own_votes = []
    with pytest.raises(UserError, match="no vote to save"):
        app.conversations.perform(app.session, Action("ratings_save", ""))


def test_a_view_that_is_closed_while_a_filter_is_applied_stays_closed(app: RatingsApp) -> None:
    gate = Gate()
    gate.close()
    app.catalogue.list_versions = lambda: gate.wait() or {}  # type: ignore[func-returns-value, method-assign]
    updates: list[object] = []
    thread = threading.Thread(target=lambda: updates.append(app.perform("ratings_period", "day")), daemon=True)
    thread.start()
    assert gate.reached.wait(TIMEOUT)
    assert app.act("close_ratings") == ""
    gate.open()
    thread.join(TIMEOUT)

    assert updates == [gr.skip()]
    assert app.perform("ratings_grouping", "registered") == gr.skip(), "a late filter does not reopen the view"
    assert app.session.panels.ratings is None
