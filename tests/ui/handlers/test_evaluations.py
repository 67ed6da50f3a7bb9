"""Evaluations on the page: sets from files, from chats and by hand, their versions, starting and following runs, and permissions."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.types import GenerationParams, Message
from phi3_ui.evaluation.answer_rows import EvaluatedAnswer
from phi3_ui.evaluation.plan import EvaluationPlan
from phi3_ui.evaluation.prompt_set import PromptRecord
from phi3_ui.evaluation.prompt_sets import PromptSets
from phi3_ui.evaluation.running import RunningEvaluation
from phi3_ui.evaluation.runs import Evaluation, EvaluationRun
from phi3_ui.ui.handlers.conversations import Action
from phi3_ui.ui.handlers.evaluations import EvaluationsController
from phi3_ui.ui.session_values import EvaluationsChoice
from tests.store.conversations.recording import locate_in
from tests.support.build_cache import create_store
from tests.ui.handlers.doubles import ENTRY, App

REQUEST = cast(gr.Request, None)
CSV = "prompt,expected_response\nCapital of Spain?,Madrid\nCapital of Italy?,Rome\n"


def make_run(
    number: int, status: str = "FINISHED", metrics: Mapping[str, float] = MappingProxyType({})
) -> EvaluationRun:
    return EvaluationRun(
        f"r-{number}", "e1", number, f"model-{number}", f"m-{number}", status, 1.0, "capitals", 2, 2, 1, metrics, {}
    )


def make_answer(question: str, text: str, score: float) -> EvaluatedAnswer:
    record = PromptRecord((Message("user", question),), {"expected_response": "Madrid"})
    return EvaluatedAnswer(
        record.key, record, 0, Answer("m", text, finish_reason="stop"), "tr-1", {"exact_match": score}
    )


class FakeEvaluations:
    """Evaluations whose state a test sets."""

    def __init__(self) -> None:
        self.found: list[Evaluation] = []
        self.running: dict[str, RunningEvaluation] = {}
        self.answers: dict[str, list[EvaluatedAnswer]] = {}
        self.started: list[EvaluationPlan] = []
        self.resumed: list[str] = []

    def list_evaluations(self) -> list[Evaluation]:
        return self.found

    def get_running(self, evaluation_id: str) -> RunningEvaluation | None:
        return self.running.get(evaluation_id)

    def load_answers(self, run_id: str) -> list[EvaluatedAnswer]:
        return self.answers.get(run_id, [])

    def start(self, plan: EvaluationPlan, records: tuple[PromptRecord, ...]) -> RunningEvaluation:
        self.started.append(plan)
        self.found = [Evaluation("e1", (make_run(0, "RUNNING"),))]
        self.running["e1"] = RunningEvaluation("e1", ("r-0",), len(records))
        return self.running["e1"]

    def resume(self, evaluation_id: str) -> RunningEvaluation:
        self.resumed.append(evaluation_id)
        return self.start(cast(EvaluationPlan, None), ())


class EvaluationsApp(App):
    """The handlers with a store of prompt sets."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        services = cast(Any, self.services)
        self.sets = services.prompt_sets = PromptSets(locate_in(create_store(folder)))
        self.evaluations = services.evaluations = FakeEvaluations()
        services.settings.manage, services.settings.judge = True, ""
        services.locator.linked_experiment_id = "1"
        self.controller = EvaluationsController(
            self.page, self.services, self.conversations, lambda _request: self.session
        )

    def open(self) -> str:
        return str(self.conversations.perform(self.session, Action("evaluations", ""))[self.page.evaluations.view])

    def act(self, name: str, **fields: object) -> str:
        data = {name: [value] if isinstance(value, str) else value for name, value in fields.items()}
        event = cast(gr.EventData, SimpleNamespace(_data={"name": name, **data}))
        return str(self.controller.act(REQUEST, event)[self.page.evaluations.view])

    def refresh(self) -> str:
        return str(self.controller.refresh(REQUEST)[self.page.evaluations.view])


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvaluationsApp:
    app = EvaluationsApp(tmp_path)
    app.warnings = list[str]()  # type: ignore[attr-defined]  # the page's warnings
    monkeypatch.setattr(gr, "Warning", app.warnings.append)  # type: ignore[attr-defined]
    app.open()
    return app


def test_a_set_is_created_from_a_file_edited_and_versioned(app: EvaluationsApp) -> None:
    html = app.act("create_set", title="capitals", file=["C:/q.csv", CSV])
    assert "Prompt set capitals" in html
    assert html.count('class="record"') == 2
    html = app.act("add_records", question="Capital of France?", expected="Paris", system="Be brief.")
    assert html.count('class="record"') == 3
    (_, _, by_hand) = app.sets.load("capitals").records
    assert [(message.role, message.content) for message in by_hand.messages] == [
        ("system", "Be brief."),
        ("user", "Capital of France?"),
    ]
    app.act("save_record", key=by_hand.key, expected="PARIS")
    app.act("remove_record", value=app.sets.load("capitals").records[0].key)
    assert [record.expectations["expected_response"] for record in app.sets.load("capitals").records] == [
        "Rome",
        "PARIS",
    ]
    old = app.act("show_version", value="1")
    assert "This is an earlier version." in old
    assert "Madrid" in old
    assert "<textarea" not in old
    assert "capitals" in app.act("home")


def test_a_set_is_created_from_chats(app: EvaluationsApp) -> None:
    chat = Conversation()
    for question in ("one", "two"):
        chat = chat.with_question(question, TurnRequest(1.0, "m-1")).with_answer(Answer("m", f"To {question}."))
    app.store.history.stored["c1"] = chat
    html = app.act("create_set", title="mine", chat="c1")
    assert html.count('class="record"') == 2
    assert [record.question for record in app.sets.load("mine").records] == ["one", "two"]
    assert "Preceding messages" in html


def test_an_evaluation_can_be_started_followed_and_cancelled(app: EvaluationsApp) -> None:
    app.act("create_set", title="capitals", file=["q.csv", CSV])
    set_id = app.sets.load("capitals").id
    form = app.act("plan", value=set_id)
    assert 'value="m-1" checked' in form
    app.act("start", set=set_id)
    assert app.warnings == ["No model is chosen. Choose at least one."]  # type: ignore[attr-defined]
    html = app.act(
        "start",
        set=set_id,
        model=["m-1", "m-1", "gone"],
        preset=["precise", "creative", "gone"],
        max_tokens="50",
        repeats="3",
        scorer=["exact_match"],
        scorers="length=..80\n\n",
    )
    (plan,) = app.evaluations.started
    assert [(candidate.model_id, candidate.params) for candidate in plan.candidates] == [
        ("m-1", GenerationParams(temperature=temperature, max_tokens=50)) for temperature in (0.0, 0.9)
    ]
    assert [candidate.name.rpartition(" ")[2] for candidate in plan.candidates] == ["(precise)", "(creative)"]
    assert (plan.scorers, plan.repeats, plan.set_version) == (("exact_match", "length=..80"), 3, 1)
    assert "0 of 2 answers" in html

    running = app.evaluations.running["e1"]
    running.set_phase("asking", 0)
    running.advance(0, 1)
    assert "1 of 2 answers" in app.refresh()
    app.act("cancel", value="e1")
    assert running.is_cancelled()
    del app.evaluations.running["e1"]
    app.evaluations.found = [Evaluation("e1", (make_run(0, "KILLED"),))]
    assert "Resume" in app.refresh()
    assert "Resume" not in app.refresh(), "nothing changes after the end"
    app.act("resume", value="e1")
    assert app.evaluations.resumed == ["e1"]


def test_results_are_shown_side_by_side_with_their_differences(app: EvaluationsApp) -> None:
    app.sets.create("capitals", [PromptRecord((Message("user", "two"),))])
    app.sets.add_records("capitals", [PromptRecord((Message("user", "one"),), {}, "tr-t1")])
    runs = (
        make_run(0, metrics={"exact_match": 1.0, "exact_match/low": 0.8, "exact_match/high": 1.0}),
        make_run(1, metrics={"answers": 2.0}),
    )
    app.evaluations.found = [Evaluation("e1", runs)]
    app.evaluations.answers = {
        "r-0": [make_answer("one", "It is Madrid.", 1.0), make_answer("two", "Yes.", 1.0)],
        "r-1": [make_answer("one", "It is Rome.", 0.0), make_answer("two", "Yes.", 1.0)],
    }
    turns = [SimpleNamespace(turn_id="t1", conversation_id="c1")]
    app.store.history.list_turn_metrics = lambda user_id: turns  # type: ignore[method-assign]
    html = app.act("show_results", value="e1")
    assert "<mark> Madrid</mark>" in html
    assert "<mark> Rome</mark>" in html
    assert "0.80 to 1.00" in html
    assert 'name="open" value="c1"' in html
    assert html.count('class="row"') == 2
    for name, count in {"different": 1, "scores": 1, "wrong": 1, "failed": 0, "all": 2, "other": 2}.items():
        assert app.act("show_rows", value=name).count('class="row"') == count
    assert app.refresh().startswith("{"), "nothing is in progress"


def test_errors_are_shown_and_change_nothing(app: EvaluationsApp) -> None:
    for name, fields, sentence in (
        ("create_set", {"title": ""}, "name"),
        ("create_set", {"title": "x", "file": ["q.csv", "prompt\n \n"]}, "q.csv"),
        ("create_set", {"title": "x", "file": ["q.exe", "MZ"]}, ".exe"),
        ("show_set", {"value": "gone"}, "gone"),
        ("show_results", {"value": "gone"}, "gone"),
        ("save_record", {"key": "gone"}, ""),
    ):
        panel = app.session.panels.evaluations
        app.act(name, **fields)
        assert sentence in app.warnings.pop()  # type: ignore[attr-defined]
        assert app.session.panels.evaluations is panel
    app.act("unknown", value=cast(str, {"a": 1}))
    assert app.sets.list_sets() == []


def test_evaluations_require_permission_to_manage(app: EvaluationsApp) -> None:
    cast(Any, app.services).settings.manage = False
    app.act("create_set", title="capitals")
    assert "PHI3_UI_MANAGE" in app.warnings[0]  # type: ignore[attr-defined]
    app.session.panels.evaluations = EvaluationsChoice(is_live=True)
    assert app.refresh().startswith("{"), json.dumps("skipped")
    assert app.sets.list_sets() == []


def test_a_late_update_does_not_reopen_the_view(app: EvaluationsApp) -> None:
    app.evaluations.start(cast(EvaluationPlan, None), ())
    app.session.panels.evaluations = replace(EvaluationsChoice(), is_live=True)
    list_sets = app.sets.list_sets

    def close_meanwhile() -> list[Any]:
        app.session.panels.evaluations = None
        return list_sets()

    app.sets.list_sets = close_meanwhile  # type: ignore[method-assign]
    assert app.refresh().startswith("{")
    assert ENTRY.model_id == "m-1"
