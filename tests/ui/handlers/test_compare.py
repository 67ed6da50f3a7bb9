"""Comparisons: a question to several models at once, hidden names, and votes."""

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import cast

import gradio as gr
import pytest

from phi3_ui.errors import UserError
from tests.ui.handlers.compare_app import LONG, REQUEST, CompareApp, open_compare_app, reveals_a_model
from tests.ui.handlers.doubles import TIMEOUT


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> CompareApp:
    return open_compare_app(monkeypatch)


def test_all_sides_are_asked_and_hidden_until_the_vote(app: CompareApp) -> None:
    updates = list(app.ask())
    for update in updates:
        for round_ in app.view(update)["rounds"]:
            assert round_["hidden"]
            assert not reveals_a_model(round_)
            assert all(set(side) == {"text", "state"} for side in round_["sides"])
        assert not reveals_a_model(update.get(app.page.conversations.chat_list, ""))
    view = app.view(updates[-1])
    (round_,) = view["rounds"]
    assert [side["text"] for side in round_["sides"]] == [LONG, LONG]
    assert round_["choices"] == ["0", "1", "tie", "both_bad"]

    after_vote = app.act("vote", round=round_["id"], choice="1", reason=" Clearer. ")
    assert app.page.usage.panel in after_vote, "these metrics count after the vote"
    voted = app.view(after_vote)

    (vote,) = app.store.history.votes
    assert (vote.preference, vote.reason, vote.exclusion) == (1, "Clearer.", None)
    (round_,) = voted["rounds"]
    assert not round_["hidden"]
    assert {side["model"] for side in round_["sides"]} == {"brook-model", "stone-model"}
    assert [side["standing"] for side in round_["sides"]] == ["lost", "won"]
    assert "4 in · 8 out" in round_["sides"][0]["metrics"]
    assert round_["note"] == "You voted: B is better. Reason: Clearer."
    assert app.session.comparison
    turns = app.session.comparison.find_turns(app.session.comparison.rounds[0])
    assert vote.turn_ids == tuple(turn.id for turn in turns if turn)
    for index, turn in enumerate(turns):
        assert turn
        assert turn.request
        assert turn.request.round
        assert (turn.request.round.place, turn.request.system) == (index, "Be brief.")
    app.act("vote", round=round_["id"], choice="0")
    assert app.warnings == ["This round already has a vote. Ask another question to vote again."]  # type: ignore[attr-defined]


def test_metrics_name_no_model_of_a_blind_round(app: CompareApp) -> None:
    metrics = app.services.metrics
    app.finish()
    assert not reveals_a_model(metrics.write(0).decode())
    assert 'phi3_tokens_total{kind="completion",model="(blind comparison)"} 16.0' in metrics.write(0).decode()
    app.finish(blind=False)
    assert 'phi3_tokens_total{kind="completion",model="brook-model"} 8.0' in metrics.write(0).decode()


def test_two_concurrent_votes_count_once(app: CompareApp) -> None:
    round_id = app.finish()["rounds"][0]["id"]
    together = threading.Barrier(2)

    def vote(choice: str) -> None:
        together.wait(TIMEOUT)
        app.act("vote", round=round_id, choice=choice)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(vote, ("0", "1")))

    assert len(app.store.history.votes) == 1
    assert len(app.warnings) == 1  # type: ignore[attr-defined]


def test_text_is_not_shown_ahead_of_a_slower_or_failed_side(app: CompareApp) -> None:
    app.llms["m-1"].gate.close()
    app.llms["m-2"].error = UserError("model_gone")
    drawing = app.ask()
    next(drawing)
    assert app.llms["m-1"].gate.reached.wait(TIMEOUT)
    assert app.llms["m-2"].gate.reached.wait(TIMEOUT)
    assert app.session.comparison
    fast = app.session.comparison.chats[1]
    while not fast.conversation.turns[0].answer:
        next(drawing)
    (round_,) = app.view(next(drawing))["rounds"]
    assert len({side["text"] for side in round_["sides"]}) == 1
    assert {side["state"] for side in round_["sides"]} == {"streaming …"}
    app.llms["m-1"].gate.open()

    *_, last = drawing

    (round_,) = app.view(last)["rounds"]
    assert sorted(side.get("error", "") for side in round_["sides"]) == [
        "",
        "This answer failed. The reason is shown after the vote.",
    ]
    (round_,) = app.view(app.act("vote", round=round_["id"], choice="tie"))["rounds"]
    assert "does not count for ratings, because an answer failed" in round_["note"]
    assert app.store.history.votes[0].exclusion == "failed"


def test_all_sides_of_a_blind_round_show_loading_while_one_model_loads(app: CompareApp) -> None:
    slow = app.llms["m-2"]
    slow.loading.close()
    drawing = app.ask()
    next(drawing)
    assert slow.loading.reached.wait(TIMEOUT)
    assert app.llms["m-1"].gate.reached.wait(TIMEOUT)

    (round_,) = app.view(next(drawing))["rounds"]
    slow.loading.open()
    list(drawing)

    assert [(side["text"], side["state"]) for side in round_["sides"]] == [("", "a model is being loaded …")] * 2


def test_each_side_has_its_own_history(app: CompareApp) -> None:
    for name, llm in app.llms.items():
        llm.text = f"I am the answer of {name}, and it is long enough to be seen."
    app.finish(question="one")
    app.finish(question="two")

    for name in ("m-1", "m-2"):
        contents = [message.content for message in app.llms[name].requests[1].messages]
        assert contents == ["Be brief.", "one", app.llms[name].text, "two"]
    assert app.session.comparison
    first_id = app.session.comparison.id
    app.finish(question="three", models=("m-1", "m-3"))
    assert app.session.comparison.id != first_id, "changing the sides starts a new comparison"


def test_sides_answer_one_after_another_if_the_pool_has_no_room(app: CompareApp) -> None:
    view = app.finish(models=("m-1", "m-2", "m-3"))
    assert "one after another" in view["note"]
    assert len(view["rounds"][0]["sides"]) == 3
    assert app.finish(models=("m-1", "m-2"))["note"] == ""


def test_stop_ends_all_answers_and_the_round_does_not_count(app: CompareApp) -> None:
    for llm in app.llms.values():
        llm.gate.close()
    drawing = app.ask()
    next(drawing)
    assert all(app.llms[name].gate.reached.wait(TIMEOUT) for name in ("m-1", "m-2"))
    app.act("stop")
    *_, last = drawing
    (round_,) = app.view(last)["rounds"]
    assert {side["state"] for side in round_["sides"]} == {"stopped"}
    app.act("vote", round=round_["id"], choice="both_bad")
    assert app.store.history.votes[0].exclusion == "stopped"


def test_both_bad_is_the_only_vote_if_a_side_was_not_asked(app: CompareApp) -> None:
    for llm in app.llms.values():
        llm.gate.close()
    drawing = app.ask(models=("m-1", "m-2", "m-3"))
    next(drawing)
    assert app.llms["m-1"].gate.reached.wait(TIMEOUT)
    app.act("stop")
    *_, last = drawing
    (round_,) = app.view(last)["rounds"]
    assert round_["choices"] == ["both_bad"]
    app.act("vote", round=round_["id"], choice="0")
    assert app.store.history.votes == []
    app.act("vote", round=round_["id"], choice="both_bad")
    assert app.store.history.votes[0].exclusion in ("unfinished", "stopped")  # depends on the order of the sides


def test_votes_are_saved_with_prompts_answers_models_and_parameters(app: CompareApp) -> None:
    first = app.finish(question="one")["rounds"][0]["id"]
    app.finish(question="two")
    app.act("vote", round=first, choice="0", reason="Shorter.")
    packed = json.loads(app.act("save")[app.page.export.download])
    (line,) = base64.b64decode(packed["content"]).decode().splitlines()
    saved = json.loads(line)
    assert (saved["round"], saved["preference"], saved["counts"], saved["reason"]) == (first, 0, True, "Shorter.")
    assert {answer["model_id"] for answer in saved["answers"]} == {"m-1", "m-2"}
    for answer in saved["answers"]:
        assert answer["messages"][-1] == {"role": "user", "content": "one"}
        assert (answer["answer"], answer["params"]) == (LONG, {"temperature": 0.5})


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (None, "empty"),
        ({"question": " "}, "empty"),
        ({"question": "Why?", "sides": "m-1"}, "two to four"),
        ({"question": "Why?", "sides": [{"model": "m-1"}]}, "two to four"),
        ({"question": "Why?", "sides": [{"model": "m-1"}] * 5}, "two to four"),
        ({"question": "Why?", "sides": [{"model": "m-1"}] * 2}, "the same"),
        ({"question": "Why?", "sides": [{"model": "m-1"}, {"model": "m-1", "preset": "none"}]}, "two to four"),
        ({"question": "Why?", "sides": [{"model": "m-1"}, 7]}, "two to four"),
        ({"question": "Why?", "sides": [{"model": "m-1"}, {"model": "gone"}]}, "no longer"),
    ],
)
def test_an_invalid_question_is_refused_with_the_reason(app: CompareApp, data: object, sentence: str) -> None:
    (updates,) = app.compare.ask(REQUEST, cast(gr.EventData, SimpleNamespace(_data=data)))
    assert app.page.compare.view in updates
    assert sentence in app.warnings[0]  # type: ignore[attr-defined]
    assert app.store.questions == []


def test_a_round_counts_as_one_question() -> None:
    app = CompareApp(PHI3_UI_QUESTIONS_PER_MINUTE="1")
    app.act("open")
    assert len(app.finish()["rounds"][0]["sides"]) == 2
