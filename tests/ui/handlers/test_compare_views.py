"""Comparisons on a page that is reloaded or left, and beside its other views: none reveals the models of a blind round."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.types import (
    GenerationParams,
    Usage,
)
from phi3_ui.errors import UserError
from phi3_ui.provision.jobs import JobState
from phi3_ui.ui.chat_state import Chat
from phi3_ui.ui.handlers.chat import ChatController
from phi3_ui.ui.handlers.compare import CompareController
from phi3_ui.ui.handlers.conversations import Action
from phi3_ui.ui.handlers.export import ExportController
from phi3_ui.ui.handlers.replay import ReplayController
from phi3_ui.ui.sessions import Session
from tests.ui.handlers.compare_app import REQUEST, CompareApp, open_compare_app, reveals_a_model
from tests.ui.handlers.doubles import TIMEOUT


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> CompareApp:
    return open_compare_app(monkeypatch)


@pytest.mark.parametrize("ends_before_the_next_drawing", [False, True])
def test_a_reloaded_page_continues_the_round(app: CompareApp, ends_before_the_next_drawing: bool) -> None:
    app.llms["m-1"].gate.close()
    before = app.ask()
    next(before)
    assert app.llms["m-1"].gate.reached.wait(TIMEOUT)
    app.pages.get("next", "en")
    app.session.hand_over(app.pages.get("next", "en"))
    app.session.connection.lost.set()
    app.session = app.pages.get("next", "en")
    before.close()
    drawing = app.compare.resume(REQUEST)
    assert app.view(next(drawing))["running"]
    app.llms["m-1"].gate.open()
    if ends_before_the_next_drawing:
        assert app.session.comparison
        assert app.session.comparison.wait(TIMEOUT)
    *_, last = drawing
    assert [side["state"] for side in app.view(last)["rounds"][0]["sides"]] == ["finished"] * 2


def test_a_page_draws_its_round_in_only_one_event(app: CompareApp) -> None:
    app.llms["m-1"].gate.close()
    drawing = app.ask()
    next(drawing)
    assert app.llms["m-1"].gate.reached.wait(TIMEOUT)
    (shown,) = app.compare.resume(REQUEST)
    assert app.view(shown)["running"]
    app.llms["m-1"].gate.open()
    *_, last = drawing
    assert [side["state"] for side in app.view(last)["rounds"][0]["sides"]] == ["finished"] * 2


class ReloadedPage:
    """The page of a tab that showed the comparison of `app`, after the app was restarted."""

    def __init__(self, app: CompareApp) -> None:
        comparison = app.session.comparison
        assert comparison
        turns = [turn for chat in comparison.chats for turn in chat.conversation.tree]
        app.store.history.stored[comparison.id] = Conversation(tuple(turns), turns[-1].id)
        self.controller = ChatController(app.page, app.services)
        self.compare = CompareController(
            app.page, app.services, self.controller.answer_starter, self.controller.chats, self.controller.session
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


def test_a_page_reloaded_while_the_app_starts_shows_its_comparison(app: CompareApp) -> None:
    round_id = app.finish()["rounds"][0]["id"]
    reloaded = ReloadedPage(app)
    chat_list = app.page.conversations.chat_list

    reloaded.tick(is_usable=False)
    assert chat_list not in reloaded.controller.after_turn(reloaded.request), "the tab would forget its chat"
    assert list(reloaded.compare.resume(reloaded.request)) == [{app.page.compare.view: gr.skip()}]
    updates = reloaded.tick()
    assert [shown["id"] for shown in app.view(updates)["rounds"]] == [round_id]
    assert f'data-chat="{reloaded.chat_id}"' in updates[chat_list]


def test_a_page_load_and_a_concurrent_tick_both_show_the_comparison(app: CompareApp) -> None:
    round_id = app.finish()["rounds"][0]["id"]
    reloaded = ReloadedPage(app)
    loading = app.store.history.loading
    loading.close()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(reloaded.tick)
        assert loading.reached.wait(TIMEOUT)
        second = pool.submit(reloaded.tick)
        loading.open()
        updates = [future.result(TIMEOUT) for future in (first, second)]

    for update in updates:
        assert [round_["id"] for round_ in app.view(update)["rounds"]] == [round_id]
        assert app.page.chat.messages in update
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
            assert last[app.page.compare.view] == "", "a late update does not reopen the view"
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


def test_other_views_of_a_blind_round_do_not_reveal_the_models(app: CompareApp) -> None:
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
    assert [shown["id"] for shown in view["rounds"]] == [round_id]
    assert not reveals_a_model(view["rounds"])
    app.act("save")
    assert "no vote to save" in app.warnings[-1]  # type: ignore[attr-defined]

    app.act("vote", round=round_id, choice="0")
    app.session.set_comparison(None)
    assert app.conversations.perform(app.session, Action("save_json", comparison.id))
    with pytest.raises(UserError, match="cannot be replayed"):
        app.conversations.perform(app.session, Action("replay", comparison.id))


def test_an_answer_is_compared_with_its_question_and_the_turns_before_it(app: CompareApp) -> None:
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
    assert [(side["model"], side["system"]) for side in opened["sides"]] == [("m-2", "Be brief."), ("m-1", "Be brief.")]
    assert imported == [], "nothing is stored until a question is asked"

    view = app.finish(question="two", models=("m-2", "m-3"))
    assert (view["id"], view["history"], len(view["rounds"])) == ("copy", [["one", "To one."]], 1)
    assert "draft" not in view or view["draft"] == ""
    for model in ("m-2", "m-3"):
        (sent,) = app.llms[model].requests
        assert [message.content for message in sent.messages] == ["Be brief.", "one", "To one.", "two"]
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
    assert ([side["model"] for side in opened["sides"]], opened["history"]) == (["m-1", "m-2"], [])
    assert app.finish(question="one")["id"] != "old"


def test_history_survives_a_round_in_which_no_side_was_asked(app: CompareApp, monkeypatch: pytest.MonkeyPatch) -> None:
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
