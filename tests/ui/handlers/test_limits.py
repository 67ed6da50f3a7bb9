"""A question beyond a user's limits is refused, and nothing is lost."""

import gradio as gr
import pytest

from phi3_ui.errors import UserError
from tests.ui.handlers.doubles import App


def test_a_question_beyond_the_limit_stays_in_the_box_and_the_chat_can_continue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = App(PHI3_UI_QUESTIONS_PER_MINUTE="1", PHI3_UI_ANSWERS_AT_ONCE="1")
    warnings: list[str] = []
    monkeypatch.setattr(gr, "Warning", warnings.append)
    assert app.send("One")[0][app.page.composer.message] == ""
    assert app.send("Two") == [{app.page.composer.message: gr.skip()}]

    assert len(warnings) == 1
    assert "questions per minute (1). Ask again in" in warnings[0]
    assert app.store.questions == ["One"]
    assert not app.session.current.is_busy


def test_answers_without_token_counts_use_up_the_daily_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App(PHI3_UI_TOKENS_PER_DAY="30")
    warnings: list[str] = []
    monkeypatch.setattr(gr, "Warning", warnings.append)
    app.send("x" * 80)  # 22 tokens, with the answer
    app.send("One")  # and with the chat before it
    app.send("Two")
    assert len(app.store.questions) == 2
    assert "tokens for a day (30)" in warnings[0]


def test_an_answer_that_cannot_be_started_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App(PHI3_UI_ANSWERS_AT_ONCE="1")

    def fail() -> None:
        raise OSError("the disk is full")

    app.store.on_start = fail
    for _ in range(3):
        with pytest.raises(OSError, match="disk"):
            app.send("One")
    app.store.on_start = lambda: None
    app.send("One")
    app.send("Two")
    assert app.store.questions == ["One", "Two"]


def test_a_message_or_a_system_prompt_that_is_too_long_stays_in_its_box(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App(PHI3_UI_MAX_MESSAGE_CHARACTERS="100")
    warnings: list[str] = []
    monkeypatch.setattr(gr, "Warning", warnings.append)

    assert app.send("x" * 101) == app.send("Hi", system="x" * 101) == [{app.page.composer.message: gr.skip()}]
    assert len(set(warnings)) == 1
    assert "at most 100 characters" in warnings[0]
    app.send("x" * 100)
    turn_id = app.session.current.conversation.tree[0].id
    with pytest.raises(UserError, match="at most 100 characters"):
        list(app.answers.ask_variant(app.session, turn_id, "x" * 101, "m-1", {}))

    assert app.store.questions == ["x" * 100]
