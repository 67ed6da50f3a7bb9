"""Comparisons: a question to several models at once, hidden names, votes, and what else must not tell them."""

import base64
import json
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.types import (
    AnswerEvent,
    CancelToken,
    ChatRequest,
    Completed,
    GenerationParams,
    TextDelta,
    Timings,
    Usage,
)
from phi3_ui.errors import UserError
from phi3_ui.provision.jobs import JobState
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.ui.chat_state import Chat
from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.handlers.compare import CompareController
from phi3_ui.ui.handlers.conversations import Action
from phi3_ui.ui.handlers.export import ExportController
from phi3_ui.ui.handlers.replay import ReplayController
from phi3_ui.ui.render.compare import ComparisonView
from phi3_ui.ui.sessions import Session
from tests.ui.handlers.doubles import ENTRY, TIMEOUT, App, Gate

REQUEST = cast(gr.Request, None)
ENTRIES = [
    replace(ENTRY, name="brook-model", model_id="m-1"),
    replace(ENTRY, name="stone-model", model_id="m-2"),
    replace(ENTRY, name="third-model", model_id="m-3"),
]
LONG = "word " * 40


class Model:
    """Answers with its text, after the first words once its gate is open."""

    def __init__(self, text: str = LONG) -> None:
        self.text, self.gate = text, Gate()
        self.requests: list[ChatRequest] = []
        self.error: Exception | None = None

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        self.requests.append(request)
        yield TextDelta(self.text[:60])
        cancel.on_set(self.gate.open)
        self.gate.wait()
        if self.error:
            raise self.error
        yield Completed(self.text, Usage(4, 8), Timings(0.1, 0.2, 40.0), "cancelled" if cancel.is_set() else "stop")


class CompareApp(App):
    """The handlers over three models."""

    def __init__(self, **limits: str) -> None:
        super().__init__(**limits)
        self.llms = {entry.model_id: Model() for entry in ENTRIES}
        by_id = {entry.model_id: entry for entry in ENTRIES}
        catalogue = cast(Any, self.catalogue)
        catalogue.find = lambda key: self._find(by_id, key)
        catalogue.list_models = lambda: ENTRIES
        cast(Any, self.services).loader.load = lambda entry: self.llms[entry.model_id]
        self.compare = CompareController(
            self.page, self.services, self.starter, self.conversations, lambda _request: self.session
        )

    @staticmethod
    def _find(by_id: dict[str, ModelEntry], key: str | None) -> ModelEntry:
        if key not in by_id:
            raise UserError("model_gone")
        return by_id[key]

    def act(self, name: str, **data: object) -> dict[Any, Any]:
        return self.compare.act(REQUEST, cast(gr.EventData, SimpleNamespace(_data={"name": name, **data})))

    def ask(
        self, question: str = "Why?", models: tuple[str, ...] = ("m-1", "m-2"), blind: bool = True
    ) -> Generator[Any, None, None]:
        sides = [{"model": model, "preset": "", "system": ""} for model in models]
        data = {"question": question, "blind": blind, "sides": sides}
        return self.compare.ask(
            REQUEST, cast(gr.EventData, SimpleNamespace(_data=data)), temperature=0.5, system="Be brief."
        )

    def view(self, updates: dict[Any, Any]) -> ComparisonView:
        return cast(ComparisonView, json.loads(updates[self.page.compare.view]))

    def finish(self, **arguments: Any) -> ComparisonView:
        *_, last = self.ask(**arguments)
        return self.view(last)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> CompareApp:
    app = CompareApp()
    app.act("open")
    app.warnings = list[str]()  # type: ignore[attr-defined]  # what the page was warned of
    monkeypatch.setattr(gr, "Warning", app.warnings.append)  # type: ignore[attr-defined]
    return app


def tells_a_model(text: object) -> bool:
    return any(word in str(text) for entry in ENTRIES[:2] for word in (entry.name, entry.name.upper()[:4]))


def test_all_sides_are_asked_and_hidden_until_the_vote(app: CompareApp) -> None:
    updates = list(app.ask())
    for one in updates:
        for round_ in app.view(one)["rounds"]:
            assert round_["hidden"]
            assert not tells_a_model(round_)
            assert all(set(side) == {"text", "state"} for side in round_["sides"])
        assert not tells_a_model(one.get(app.page.conversations.chat_list, ""))
    view = app.view(updates[-1])
    (round_,) = view["rounds"]
    assert [side["text"] for side in round_["sides"]] == [LONG, LONG]
    assert round_["choices"] == ["0", "1", "tie", "both_bad"]

    voted = app.view(app.act("vote", round=round_["id"], choice="1", reason=" Clearer. "))

    (vote,) = app.store.history.votes
    assert (vote.preference, vote.reason, vote.exclusion) == (1, "Clearer.", None)
    (round_,) = voted["rounds"]
    assert not round_["hidden"]
    assert {side["model"] for side in round_["sides"]} == {"brook-model", "stone-model"}
    assert [side["standing"] for side in round_["sides"]] == ["lost", "won"]
    assert "4 in · 8 out" in round_["sides"][0]["metrics"]
    assert round_["note"] == "You voted: B is better."
    assert app.session.comparison
    turns = app.session.comparison.find_turns(app.session.comparison.rounds[0])
    assert vote.turn_ids == tuple(turn.id for turn in turns if turn)
    for place, turn in enumerate(turns):
        assert turn
        assert turn.request
        assert turn.request.round
        assert (turn.request.round.place, turn.request.system) == (place, "Be brief.")
    app.act("vote", round=round_["id"], choice="0")
    assert app.warnings == ["This round has a vote already. Ask another question to vote again."]  # type: ignore[attr-defined]


def test_two_votes_at_once_are_one(app: CompareApp) -> None:
    round_id = app.finish()["rounds"][0]["id"]
    together = threading.Barrier(2)

    def vote(choice: str) -> None:
        together.wait(TIMEOUT)
        app.act("vote", round=round_id, choice=choice)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(vote, ("0", "1")))

    assert len(app.store.history.votes) == 1
    assert len(app.warnings) == 1  # type: ignore[attr-defined]


def test_no_side_is_ahead_while_one_is_slower_or_has_failed(app: CompareApp) -> None:
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


def test_each_side_has_its_own_history(app: CompareApp) -> None:
    for name, llm in app.llms.items():
        llm.text = f"I am the answer of {name}, and it is long enough to be seen."
    app.finish(question="one")
    app.finish(question="two")

    for name in ("m-1", "m-2"):
        contents = [message.content for message in app.llms[name].requests[1].messages]
        assert contents == ["Be brief.", "one", app.llms[name].text, "two"]
    assert app.session.comparison
    before = app.session.comparison.id
    app.finish(question="three", models=("m-1", "m-3"))
    assert app.session.comparison.id != before, "other sides begin a new comparison"


def test_without_room_the_sides_answer_one_after_the_other(app: CompareApp) -> None:
    view = app.finish(models=("m-1", "m-2", "m-3"))
    assert "one after the other" in view["note"]
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


def test_where_a_side_was_not_asked_only_a_vote_that_says_nothing_is_possible(app: CompareApp) -> None:
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
    assert app.store.history.votes[0].exclusion in ("unfinished", "stopped")  # by whose place comes first


def test_a_reloaded_page_goes_on_with_the_round(app: CompareApp) -> None:
    app.llms["m-1"].gate.close()
    before = app.ask()
    next(before)
    assert app.llms["m-1"].gate.reached.wait(TIMEOUT)
    app.pages.get("next", "en")
    app.session.hand_over(app.pages.get("next", "en"))
    app.session.connection_lost.set()
    app.session = app.pages.get("next", "en")
    before.close()
    drawing = app.compare.resume(REQUEST)
    assert app.view(next(drawing))["running"]
    app.llms["m-1"].gate.open()
    *_, last = drawing
    assert [side["state"] for side in app.view(last)["rounds"][0]["sides"]] == ["finished"] * 2


class Reloaded:
    """A page of the tab that shows the comparison of `app`, after the app was started again."""

    def __init__(self, app: CompareApp) -> None:
        comparison = app.session.comparison
        assert comparison
        turns = [turn for chat in comparison.chats for turn in chat.conversation.tree]
        app.store.history.stored[comparison.id] = Conversation(tuple(turns), turns[-1].id)
        self.controller = ChatController(app.page, app.services)
        self.compare = CompareController(
            app.page, app.services, self.controller.asking, self.controller.chats, self.controller.session
        )
        address: dict[str, Any] = {"headers": {}, "session_hash": "reloaded", "username": None, "client": None}
        self.request = cast(gr.Request, SimpleNamespace(**address))
        self.chat_id = comparison.id
        self._first_run = cast(Any, app.services).first_run

    @property
    def session(self) -> Session:
        return self.controller.session(self.request)

    def tick(self, is_usable: bool = True) -> dict[Any, Any]:
        self._first_run.state = JobState("done", is_usable=True) if is_usable else JobState()
        return self.controller.tick(None, {"login": "", "chat": self.chat_id}, self.request)


def test_a_page_that_was_reloaded_while_the_app_starts_shows_its_comparison(app: CompareApp) -> None:
    round_id = app.finish()["rounds"][0]["id"]
    reloaded = Reloaded(app)
    chat_list = app.page.conversations.chat_list

    reloaded.tick(is_usable=False)
    assert chat_list not in reloaded.controller.after_turn(reloaded.request), "the tab would forget its chat"
    assert list(reloaded.compare.resume(reloaded.request)) == [{app.page.compare.view: gr.skip()}]
    updates = reloaded.tick()
    assert [one["id"] for one in app.view(updates)["rounds"]] == [round_id]
    assert f'data-chat="{reloaded.chat_id}"' in updates[chat_list]


def test_a_page_that_loads_and_ticks_at_once_shows_its_comparison_twice(app: CompareApp) -> None:
    round_id = app.finish()["rounds"][0]["id"]
    reloaded = Reloaded(app)
    loading = app.store.history.loading
    loading.close()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(reloaded.tick)
        assert loading.reached.wait(TIMEOUT)
        second = pool.submit(reloaded.tick)
        loading.open()
        updates = [one.result(TIMEOUT) for one in (first, second)]

    for one in updates:
        assert [round_["id"] for round_ in app.view(one)["rounds"]] == [round_id]
        assert app.page.chat.messages in one
    assert reloaded.session.panels.compare_open


@pytest.mark.parametrize("leave", ["close the iterator", "close the view", "switch", "delete", "close the page"])
def test_a_round_ends_when_its_page_is_left(app: CompareApp, leave: str) -> None:
    for llm in app.llms.values():
        llm.gate.close()
    drawing = app.ask()
    next(drawing)
    assert all(app.llms[name].gate.reached.wait(TIMEOUT) for name in ("m-1", "m-2"))
    comparison = app.session.comparison
    assert comparison
    match leave:
        case "close the iterator":
            drawing.close()
        case "close the view":
            app.act("close")
            *_, last = drawing
            assert last[app.page.compare.view] == "", "what comes late does not open it again"
        case "switch":
            app.conversations.switch_to(app.session, None)
        case "delete":
            app.session.forget(comparison.id)
        case "close the page":
            assert app.session.close() != []
    assert comparison.wait(TIMEOUT)
    reasons = [
        turn.answer.finish_reason for turn in comparison.find_turns(comparison.rounds[0]) if turn and turn.answer
    ]
    assert reasons == ["cancelled"] * 2


def test_other_ways_to_a_blind_round_do_not_tell_the_models(app: CompareApp) -> None:
    round_id = app.finish()["rounds"][0]["id"]
    comparison = app.session.comparison
    assert comparison
    turns = [turn for chat in comparison.chats for turn in chat.conversation.tree]
    app.store.history.stored[comparison.id] = Conversation(tuple(turns), turns[-1].id)
    ExportController(app.page, app.services, app.conversations, lambda _request: app.session)
    ReplayController(app.page, app.services, app.starter, app.conversations, lambda _request: app.session)
    app.act("close")
    app.session.set_comparison(None)

    for name in ("save_markdown", "save_json", "replay"):
        with pytest.raises(UserError, match="Vote first"):
            app.conversations.perform(app.session, Action(name, comparison.id))
    with pytest.raises(UserError):
        app.conversations.perform(app.session, Action("reproduce", turns[0].id))
    opened = app.conversations.perform(app.session, Action("open", comparison.id))
    assert app.session.current.id != comparison.id
    assert app.page.chat.messages not in opened
    view = app.view(opened)
    assert [one["id"] for one in view["rounds"]] == [round_id]
    assert not tells_a_model(view["rounds"])
    app.act("save")
    assert "no vote to save" in app.warnings[-1]  # type: ignore[attr-defined]

    app.act("vote", round=round_id, choice="0")
    app.session.set_comparison(None)
    assert app.conversations.perform(app.session, Action("save_json", comparison.id))
    with pytest.raises(UserError, match="cannot be replayed"):
        app.conversations.perform(app.session, Action("replay", comparison.id))


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
def test_an_invalid_question_is_refused_with_a_sentence(app: CompareApp, data: object, sentence: str) -> None:
    (updates,) = app.compare.ask(REQUEST, cast(gr.EventData, SimpleNamespace(_data=data)))
    assert app.page.compare.view in updates
    assert sentence in app.warnings[0]  # type: ignore[attr-defined]
    assert app.store.questions == []


def test_a_round_counts_as_one_question() -> None:
    app = CompareApp(PHI3_UI_QUESTIONS_PER_MINUTE="1")
    app.act("open")
    assert len(app.finish()["rounds"][0]["sides"]) == 2


def test_an_answer_is_compared_with_its_question_and_what_led_to_it(app: CompareApp) -> None:
    chat = Conversation()
    for question, model in (("one", "m-1"), ("two", "m-2"), ("three", "m-1")):
        request = TurnRequest(1.0, model, "Be brief.", GenerationParams(temperature=0.1))
        answer = Answer(f"{model} · Python", f"To {question}.", Usage(5, 6), finish_reason="stop")
        chat = chat.with_question(question, request).with_answer(answer)
    app.session.show(Chat("old", chat))
    imported = list[Conversation]()

    def import_conversation(user_id: str, conversation: Conversation) -> SimpleNamespace:
        imported.append(conversation)
        return SimpleNamespace(id="copy", conversation=conversation)

    app.store.import_conversation = import_conversation  # type: ignore[attr-defined]
    opened = app.view(app.conversations.perform(app.session, Action("compare", chat.turns[1].id)))
    assert (opened["draft"], opened["history"]) == ("two", [["one", "To one."]])
    assert [(one["model"], one["system"]) for one in opened["sides"]] == [("m-2", "Be brief."), ("m-1", "Be brief.")]
    assert imported == [], "nothing is kept until a question is asked"

    view = app.finish(question="two", models=("m-2", "m-3"))
    assert (view["id"], view["history"], len(view["rounds"])) == ("copy", [["one", "To one."]], 1)
    assert "draft" not in view or view["draft"] == ""
    for model in ("m-2", "m-3"):
        (request_,) = app.llms[model].requests
        assert [message.content for message in request_.messages] == ["Be brief.", "one", "To one.", "two"]
    (copied,) = imported
    assert {turn.id for turn in copied.tree}.isdisjoint(turn.id for turn in chat.tree)
    assert copied.total_usage is None, "tokens are counted once"
    app.finish(question="and?", models=("m-2", "m-3"))
    assert len(app.llms["m-2"].requests[1].messages) == 6
    assert app.finish(question="other sides", models=("m-1", "m-3"))["history"] == []
    assert len(imported) == 1
    with pytest.raises(UserError):
        app.conversations.perform(app.session, Action("compare", "none of the chat"))


def test_a_compared_answer_without_history_or_with_an_unknown_model(app: CompareApp) -> None:
    request = TurnRequest(1.0, "gone", params=GenerationParams(temperature=0.1))
    chat = Conversation().with_question("one", request).with_answer(Answer("gone", "To one.", finish_reason="stop"))
    app.session.show(Chat("old", chat))
    opened = app.view(app.conversations.perform(app.session, Action("compare", chat.turns[0].id)))
    assert ([one["model"] for one in opened["sides"]], opened["history"]) == (["m-1", "m-2"], [])
    assert app.finish(question="one")["id"] != "old"


def test_history_outlives_a_round_that_nobody_was_asked(app: CompareApp, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = Conversation()
    for question in ("one", "two"):
        answer = Answer("m-1", f"To {question}.", finish_reason="stop")
        chat = chat.with_question(question, TurnRequest(1.0, "m-1")).with_answer(answer)
    app.session.show(Chat("old", chat))
    imported = SimpleNamespace(id="copy", conversation=Conversation(chat.tree[:1], chat.tree[0].id))
    app.store.import_conversation = lambda *_: imported  # type: ignore[attr-defined]
    app.conversations.perform(app.session, Action("compare", chat.turns[1].id))
    with monkeypatch.context() as patch:
        patch.setattr(app.services.quotas, "claim", raise_busy)
        assert app.finish(question="two")["rounds"] == []
    view = app.finish(question="two", models=("m-2", "m-3"))
    assert (view["id"], view["history"]) == ("copy", [["one", "To one."]])
    assert len(app.llms["m-3"].requests[0].messages) == 4


def raise_busy(*_: object, **__: object) -> None:
    raise UserError("chat_busy")
