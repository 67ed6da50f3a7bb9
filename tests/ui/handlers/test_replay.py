"""Replays: the questions of a chat asked again, while the page that shows them is left, reloaded or closed."""

import threading
from typing import cast

import gradio as gr
import pytest

from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.types import GenerationParams
from phi3_ui.errors import UserError
from phi3_ui.ui.chat_state import Chat
from phi3_ui.ui.handlers.conversations import Action
from phi3_ui.ui.handlers.replay import ReplayController
from phi3_ui.ui.replay_state import Replay
from phi3_ui.ui.sessions import Session
from tests.ui.handlers.doubles import TIMEOUT, App

QUESTIONS = ["one", "two", "three"]
REQUEST = cast(gr.Request, None)


@pytest.fixture
def app() -> App:
    """A page that shows a chat of three questions."""
    app, conversation = App(), Conversation()
    for question in QUESTIONS:
        conversation = conversation.with_question(question).with_answer(Answer("m", "1"))
    app.session.show(Chat(conversation=conversation))
    return app


def control(app: App) -> ReplayController:
    return ReplayController(app.page, app.services, app.starter, app.conversations, lambda _request: app.session)


def finish(replay: Replay | None) -> list[tuple[str, str | None]]:
    """Wait for the end of a replay; return its questions and how each was answered."""
    assert replay is not None
    assert replay.wait(TIMEOUT)
    return [
        (turn.question, turn.answer.finish_reason if turn.answer else None) for turn in replay.chat.conversation.turns
    ]


def reload_page(app: App) -> Session:
    app.pages.get("next", "en")
    app.session.hand_over(app.pages.get("next", "en"))
    return app.pages.get("next", "en")


def test_all_questions_are_asked_again_and_compared(app: App) -> None:
    *_, last = control(app).replay("m-1", REQUEST)

    assert app.store.questions == QUESTIONS
    assert [turn["new"]["text"] for turn in last[app.page.replay.comparison]["turns"]] == ["Hello"] * 3
    assert "saved as a separate chat" in str(last[app.page.replay.note])
    assert finish(app.session.replay) == [(question, "stop") for question in QUESTIONS]
    assert app.session.replay
    assert app.session.find_chat(app.session.replay.chat.id) is app.session.replay.chat


def test_the_action_opens_the_view_with_the_choice_of_models_and_asks_nothing(app: App) -> None:
    replays, page = control(app), app.page.replay
    other = Chat("c-2", Conversation().with_question("else").with_answer(Answer("m", "1")))
    app.store.history.stored["c-2"] = other.conversation

    shown = app.conversations.perform(app.session, Action("replay", app.session.current.id))
    assert "Replay of “title”" in str(shown[page.head])
    assert [key for _, key in shown[page.model].choices] == ["m-1"]
    assert [turn["question"] for turn in shown[page.comparison]["turns"]] == QUESTIONS
    assert app.page.chat.messages not in shown
    elsewhere = app.conversations.perform(app.session, Action("replay", "c-2"))
    assert app.session.current.id == "c-2", "the chat that the view covers is replayed"
    assert "Replay of" in str(elsewhere[page.head])
    assert app.page.chat.messages in elsewhere
    assert app.store.questions == []
    assert app.conversations.perform(app.session, Action("close_replay", "")) == {page.head: ""}
    app.session.show_new()
    with pytest.raises(UserError, match="nothing to replay"):
        app.conversations.perform(app.session, Action("replay", app.session.current.id))
    assert replays


def test_a_reloaded_page_draws_its_replay_to_the_end(app: App) -> None:
    app.model.gate.close()
    replays = control(app)
    first_drawing = replays.replay("m-1", REQUEST)
    next(first_drawing)
    assert app.model.gate.reached.wait(TIMEOUT)
    app.session = reload_page(app)
    first_drawing.close()
    drawing = replays.resume(REQUEST)
    next(drawing)
    assert app.page.replay.comparison in next(drawing)
    app.model.gate.open()

    *_, last = drawing

    assert "saved as a separate chat" in str(last[app.page.replay.note])
    assert app.store.questions == QUESTIONS, "no question is asked twice"
    assert len(list(replays.resume(REQUEST))) == 2, "a finished comparison is shown again"
    replays.close(app.session)
    assert len(list(replays.resume(REQUEST))) == 1


def test_a_page_draws_its_replay_in_only_one_event(app: App) -> None:
    app.model.gate.close()
    replays = control(app)
    drawing = replays.replay("m-1", REQUEST)
    next(drawing)
    assert len(list(replays.resume(REQUEST))) == 1, "only the view, no second event that waits for the end"
    assert app.session.replay
    assert not app.session.replay.is_stopped()
    drawing.close()
    assert finish(app.session.replay)


def test_a_replay_continues_while_the_connection_is_lost(app: App) -> None:
    app.model.gate.close()
    drawing = control(app).replay("m-1", REQUEST)
    next(drawing)
    app.session.connection.lost.set()
    drawing.close()
    app.model.gate.open()

    assert finish(app.session.replay) == [(question, "stop") for question in QUESTIONS]


@pytest.mark.parametrize("leave", ["close the iterator", "stop", "switch", "delete", "close the page"])
def test_a_replay_ends_when_its_page_is_left(app: App, leave: str) -> None:
    app.model.gate.close()
    replays = control(app)
    drawing = replays.replay("m-1", REQUEST)
    next(drawing)
    assert app.model.gate.reached.wait(TIMEOUT)
    replay = app.session.replay
    assert replay
    match leave:
        case "close the iterator":
            drawing.close()
        case "stop":
            replays.stop(REQUEST)
        case "switch":
            app.conversations.switch_to(app.session, None)
        case "delete":
            app.session.forget(replay.chat.id)
        case "close the page":
            assert app.session.close() != []

    assert finish(replay) == [("one", "cancelled")]
    assert replay.is_stopped()


@pytest.mark.parametrize(
    ("question", "system", "params", "sentence"),
    [
        ("Hi", "", GenerationParams(temperature=-5), "emperature cannot be -5"),
        ("x" * 101, "", GenerationParams(), "at most 100 characters"),
        ("Hi", "x" * 101, GenerationParams(), "at most 100 characters"),
    ],
)
def test_invalid_requests_of_an_imported_chat_are_not_replayed(
    question: str, system: str, params: GenerationParams, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(PHI3_UI_MAX_MESSAGE_CHARACTERS="100")
    warnings: list[str] = []
    monkeypatch.setattr(gr, "Warning", warnings.append)
    request = TurnRequest(1.0, "m-1", system, params)
    app.session.show(Chat(conversation=Conversation().with_question(question, request).with_answer(Answer("m", "1"))))

    list(control(app).replay("m-1", REQUEST))
    assert app.store.questions == []
    assert [sentence in warning for warning in warnings] == [True]


def test_the_prefix_of_a_continued_answer_is_not_replayed(app: App) -> None:
    request = TurnRequest(1.0, "m-1", prefix="Once upon")
    app.session.show(Chat(conversation=Conversation().with_question("Hi", request).with_answer(Answer("m", "1"))))

    *_, last = control(app).replay("m-1", REQUEST)
    assert [turn["new"]["text"] for turn in last[app.page.replay.comparison]["turns"]] == ["Hello"]


def test_only_one_replay_runs_at_a_time(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings = list[str]()
    monkeypatch.setattr(gr, "Warning", warnings.append)
    app.model.gate.close()
    first = control(app).replay("m-1", REQUEST)
    next(first)

    assert len(list(control(app).replay("m-1", REQUEST))) == 1

    assert len(warnings) == 1
    app.model.gate.open()
    list(first)
    assert app.store.questions == QUESTIONS


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(UserError("no_such_chat"), "This chat no longer exists"), (RuntimeError("defect"), "RuntimeError")],
)
def test_an_error_ends_a_replay_with_a_message(
    app: App, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    def fail() -> None:
        raise error

    warnings, app.store.on_start = list[str](), fail
    monkeypatch.setattr(gr, "Warning", warnings.append)

    *_, last = control(app).replay("m-1", REQUEST)

    assert sentence in warnings[0]
    assert app.session.replay
    assert app.session.replay.is_finished
    assert "Stopped." in str(last[app.page.replay.note])
    assert not [thread for thread in threading.enumerate() if thread.name == "replay"]
