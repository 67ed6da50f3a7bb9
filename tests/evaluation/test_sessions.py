"""Session evaluation: conversations are replayed on a candidate without any other language model."""

import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Trace
from mlflow.genai.scorers import scorer
from mlflow.genai.simulators import simulator

from phi3_ui.chat.types import Message
from phi3_ui.errors import UserError
from phi3_ui.evaluation import evaluations, work
from phi3_ui.evaluation.plan import Candidate, plan_evaluation
from phi3_ui.evaluation.sessions import build_session_records, collect_sessions
from tests.store.conversations.chats import ask, make_answer, make_conversation
from tests.support.evaluating import Bench, TableModel, open_bench

_LONG = ask(make_conversation("Hi", "Hello"), "Your name?").with_answer(make_answer("Phi")).with_question("Bye")
_SHORT = make_conversation("Hi", "Hey")
_SYSTEM = Message("system", "Be brief.")


@pytest.fixture
def model() -> TableModel:
    return TableModel({"Hi": "Hello", "Your name?": "Nobody", "Bye": "Bye, then"})


@pytest.fixture
def bench(tmp_path: Path, model: TableModel, monkeypatch: pytest.MonkeyPatch) -> Bench:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a language model is called")

    monkeypatch.setattr(simulator, "invoke_model_without_tracing", refuse)
    monkeypatch.setenv("OPENAI_API_KEY", "as if there were one")
    return open_bench(tmp_path, {"m/1": model})


def test_a_session_is_replayed_with_the_candidates_own_answers(bench: Bench, model: TableModel) -> None:
    chats, turns = collect_sessions("chats", [_LONG, _SHORT])
    plan = plan_evaluation(chats, (Candidate("m/1", "m"),), scorers=("exact_match",), session_turns=turns)
    running = bench.evaluations.start(plan, chats.records)
    assert running.wait(60)

    assert (turns, running.progress.error, running.progress.done) == ((3, 1), None, 4)
    assert [request.messages for request in model.requests[:3]] == [
        (_SYSTEM, Message("user", "Hi")),
        (_SYSTEM, Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Your name?")),
        (
            Message("user", "Hi"),
            Message("assistant", "Hello"),
            Message("user", "Your name?"),
            Message("assistant", "Nobody"),
            Message("user", "Bye"),
        ),
    ]
    answers = bench.evaluations.load_answers(running.run_ids[0])
    assert [answer.scores.get("exact_match") for answer in answers] == [1.0, 0.0, None, 0.0]
    client = MlflowClient(bench.location.tracking_uri)
    traces = client.search_traces(locations=[bench.location.experiment_id])
    assert len(traces) == 4
    assert len({trace.info.trace_metadata["mlflow.trace.session"] for trace in traces}) == 2
    assert client.get_run(running.run_ids[0]).data.metrics["exact_match"] == pytest.approx(1 / 3)


def test_a_cancelled_session_is_resumed_within_the_conversation(bench: Bench, model: TableModel) -> None:
    chats, turns = collect_sessions("chats", [_LONG])
    plan = plan_evaluation(chats, (Candidate("m/1", "m"),), session_turns=turns)
    started = threading.Event()

    def cancel_at_the_second(_: object) -> None:
        if len(model.requests) == 2:
            assert started.wait(60)
            running.cancel()

    model.on_request = cancel_at_the_second
    running = bench.evaluations.start(plan, chats.records)
    started.set()
    assert running.wait(60)
    assert running.progress.done == 1

    model.on_request = lambda _: None
    resumed = bench.evaluations.resume(running.id)
    assert resumed.wait(60)

    assert (resumed.progress.done, resumed.progress.error) == (3, None)
    assert model.questions == ["Hi", "Your name?", "Your name?", "Bye"]


def test_session_level_scorers_are_cancelled_and_resumed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_GENAI_EVAL_MAX_WORKERS", "1")
    calls, started = list[int](), threading.Event()

    @scorer
    def turns_in_all(session: list[Trace]) -> int:
        calls.append(len(session))
        if len(calls) == 1:
            assert started.wait(60)
            running.cancel()
        return len(session)

    for module in (evaluations, work):
        monkeypatch.setattr(module, "load_own_scorer", lambda _: [turns_in_all])
    chats, turns = collect_sessions("chats", [_LONG, _SHORT])
    plan = plan_evaluation(chats, (Candidate("m/1", "m"),), own_scorers=("one",), session_turns=turns)
    running = bench.evaluations.start(plan, chats.records)
    started.set()
    assert running.wait(60)
    assert len(calls) == 1
    resumed = bench.evaluations.resume(running.id)
    assert resumed.wait(60)

    assert sorted(calls) == [1, 3]
    answers = bench.evaluations.load_answers(running.run_ids[0])
    assert [answer.scores for answer in answers] == [{"turns_in_all": 3.0}, {}, {}, {"turns_in_all": 1.0}]


def test_a_model_that_does_not_load_ends_the_evaluation(bench: Bench, model: TableModel) -> None:
    model.answers["Hi"] = UserError("load_failed", model="m", detail="no", log="none")
    chats, turns = collect_sessions("chats", [_SHORT])
    running = bench.evaluations.start(
        plan_evaluation(chats, (Candidate("m/1", "m"),), session_turns=turns), chats.records
    )
    assert running.wait(60)

    assert running.progress.error is not None
    assert running.progress.error.code == "load_failed"


def test_recorded_answers_become_expectations() -> None:
    records = build_session_records(_LONG)

    assert [record.expectations for record in records] == [
        {"expected_response": "Hello"},
        {"expected_response": "Phi"},
        {},
    ]
    assert records[1].messages[1:3] == (Message("user", "Hi"), Message("assistant", "Hello"))
