"""Models that hang within a chunk: their process is killed, and no text is lost."""

import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from phi3_ui.chat.conversation import Answer
from phi3_ui.chat.running_turn import RunningTurn
from phi3_ui.chat.types import CancelToken, ChatRequest, GenerationParams, Message, TextDelta
from phi3_ui.cli.chat import format_usage
from phi3_ui.errors import UserError
from phi3_ui.host import hosted_model
from phi3_ui.host.pool import Pool
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.testing import Gate, Hang, Reply, ScriptedModel, log_scripted_model
from tests.support.trust import approve_models

pytestmark = pytest.mark.engine  # a process that imports MLflow for each model

_GRACE = 0.5  # seconds; shorter than the heartbeat interval
HOLDS_GIL = pytest.mark.parametrize("holds_gil", [True, False], ids=["holds the GIL", "waits"])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('hanging') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def scripted(store: str, tmp_path_factory: pytest.TempPathFactory) -> ScriptedModel:
    return log_scripted_model(store, tmp_path_factory.mktemp("script"), name="hanging")


@pytest.fixture
def spec(scripted: ScriptedModel, store: str) -> ModelSpec:
    scripted.reset()
    (folder,) = scripted.folder.parent.glob(f"artifacts/**/{scripted.model_id}/artifacts")
    return ModelSpec(scripted.model_id, scripted.name, scripted.uri, "prompt", store, folder=str(folder))


@pytest.fixture
def pool(spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """A pool with a short grace period."""
    monkeypatch.setattr(hosted_model, "GRACE_SECONDS", _GRACE)
    threads = set(threading.enumerate())
    pool = Pool(tmp_path, max_loaded=1, idle_seconds=600, admit=approve_models(spec.tracking_uri, tmp_path).admit)
    yield pool
    pool.close()
    for thread in set(threading.enumerate()) - threads:
        if thread.name != "pool":  # exits at its next check
            thread.join(30)
            assert not thread.is_alive(), thread.name


def _turn(
    pool: Pool, spec: ModelSpec, question: str, time_limit: float | None = None
) -> tuple[RunningTurn, list[Answer]]:
    answers: list[Answer] = []
    request = ChatRequest((Message("user", question),), GenerationParams(2000), time_limit=time_limit)
    return RunningTurn(request, spec.name, lambda: pool.get_model(spec), answers.append).start(), answers


def _await_text(turn: RunningTurn, text: str) -> None:
    next(snapshot for snapshot in turn.snapshots(0.01, keeps_running=lambda: True) if snapshot.text.startswith(text))


def _hang_after_text(scripted: ScriptedModel, question: str, holds_gil: bool) -> Gate:
    """Script an answer that hangs once the gate is open, so that its text arrives even if nothing runs afterwards."""
    gate = scripted.create_gate()
    scripted.enqueue(Reply("Once upon ", gate, Hang(holds_gil), "a time", question=question))
    return gate


def _assert_answers_again(pool: Pool, spec: ModelSpec) -> None:
    turn, answers = _turn(pool, spec, "Hello again.")
    assert turn.wait(120)
    assert (answers[0].text, answers[0].error) == ("Hello again.", None)


@HOLDS_GIL
def test_stop_keeps_the_text_of_both_answers_and_the_next_question_reloads_the_model(
    pool: Pool, spec: ModelSpec, scripted: ScriptedModel, holds_gil: bool
) -> None:
    gate = _hang_after_text(scripted, "A story?", holds_gil)
    scripted.enqueue(Reply("Another ", gate, Hang(holds_gil), question="And another?"))
    hung_turn, hung_answers = _turn(pool, spec, "A story?")
    other_turn, other_answers = _turn(pool, spec, "And another?")
    _await_text(hung_turn, "Once upon ")
    _await_text(other_turn, "Another ")
    process = psutil.Process(pool.get_model(spec).pid)
    gate.open()
    hung_turn.stop()
    assert hung_turn.wait(60)
    assert other_turn.wait(60)

    (answer,) = hung_answers
    assert (answer.text, answer.finish_reason, answer.error) == ("Once upon ", "cancelled", None)
    assert answer.ended_model
    assert format_usage(answer).endswith(
        "the model did not respond and was terminated; your next question loads it again"
    )
    (answer,) = other_answers
    assert answer.text == "Another "
    assert answer.error
    assert answer.error[0] == "model_hung"
    process.wait(30)
    _assert_answers_again(pool, spec)


def test_the_time_limit_ends_a_hung_model(pool: Pool, spec: ModelSpec, scripted: ScriptedModel) -> None:
    pool.get_model(spec).ready.result(120)
    gate = _hang_after_text(scripted, "A story?", holds_gil=True)
    turn, answers = _turn(pool, spec, "A story?", time_limit=3.0)
    _await_text(turn, "Once upon ")
    gate.open()
    assert turn.wait(60)
    assert (answers[0].text, answers[0].finish_reason, answers[0].ended_model) == ("Once upon ", "timeout", True)


def test_closing_a_tab_leaves_no_hung_process(pool: Pool, spec: ModelSpec, scripted: ScriptedModel) -> None:
    scripted.enqueue(Reply("Once ", Hang()))
    model = pool.get_model(spec)
    events = model.answer(ChatRequest((Message("user", "A story?"),)), CancelToken())
    next(event for event in events if isinstance(event, TextDelta))
    process = psutil.Process(model.pid)
    events.close()  # type: ignore[attr-defined]  # a generator
    process.wait(60)
    assert not model.is_alive


def test_unloading_is_refused_while_a_model_answers_but_not_while_it_hangs(
    pool: Pool, spec: ModelSpec, scripted: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted_model, "GRACE_SECONDS", 3.0)  # more than the heartbeat interval
    gate = _hang_after_text(scripted, "A story?", holds_gil=False)
    turn, answers = _turn(pool, spec, "A story?")
    _await_text(turn, "Once upon ")
    gate.wait_until_reached()
    with pytest.raises(UserError, match="is answering a question"):
        pool.unload(spec.model_id)
    process = psutil.Process(pool.get_model(spec).pid)
    gate.open()
    while True:
        try:
            pool.unload(spec.model_id)
            break
        except UserError as error:  # its last heartbeat was just now
            assert error.code == "model_busy"  # noqa: PT017
    assert not process.is_running()
    assert turn.wait(60)
    assert answers[0].text == "Once upon "
    assert answers[0].error
    assert answers[0].error[0] == "model_hung"
    _assert_answers_again(pool, spec)


def test_a_hung_answer_does_not_interrupt_a_streaming_one(pool: Pool, spec: ModelSpec, scripted: ScriptedModel) -> None:
    scripted.enqueue(Reply("Once ", Hang(), question="A story?"))
    scripted.enqueue(Reply("tick ", endless=True, seconds_per_token=0.01, question="A clock?"))
    hung_turn, hung_answers = _turn(pool, spec, "A story?")
    streaming_turn, streamed_answers = _turn(pool, spec, "A clock?")
    _await_text(hung_turn, "Once ")
    _await_text(streaming_turn, "tick ")
    model = pool.get_model(spec)
    process = psutil.Process(model.pid)
    hung_turn.stop()
    assert hung_turn.wait(60)
    assert (hung_answers[0].text, hung_answers[0].finish_reason, hung_answers[0].ended_model) == (
        "Once ",
        "cancelled",
        False,
    )
    assert model.is_alive
    assert not streamed_answers
    streaming_turn.stop()
    assert streaming_turn.wait(60)
    assert (streamed_answers[0].finish_reason, streamed_answers[0].ended_model) == ("cancelled", False)
    process.wait(60)
    _assert_answers_again(pool, spec)
