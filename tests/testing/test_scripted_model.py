"""The scripted model: found in a store, loaded in its process and called through its contract like any other model."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import mlflow
import pytest

from phi3_ui.chat.types import (
    AnswerEvent,
    CancelToken,
    ChatRequest,
    Completed,
    GenerationParams,
    Message,
    TextDelta,
    Usage,
)
from phi3_ui.errors import UserError
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.pool import Pool
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.paths import ROOT
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.testing import Reply, Request, ScriptedModel, log_scripted_model
from tests.support.build_cache import create_store
from tests.support.trust import approve_models


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return create_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def logged(tracking_uri: str, tmp_path_factory: pytest.TempPathFactory) -> ScriptedModel:
    return log_scripted_model(tracking_uri, tmp_path_factory.mktemp("scripts"))


@pytest.fixture
def model(logged: ScriptedModel) -> ScriptedModel:
    logged.reset()
    return logged


@pytest.fixture(scope="module")
def hosted(tracking_uri: str, logged: ScriptedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostedModel]:
    (entry,) = Catalogue(tracking_uri).list_models()
    assert (entry.name, entry.model_id) == (logged.name, logged.model_id)
    logs = tmp_path_factory.mktemp("logs")
    pool = Pool(logs, max_loaded=1, idle_seconds=600, admit=approve_models(tracking_uri, logs).admit)
    yield pool.get_model(
        ModelSpec(entry.model_id, entry.name, entry.uri, entry.contract, entry.tracking_uri, folder=entry.folder)
    )
    pool.close()


def ask(
    hosted: HostedModel, question: str, max_tokens: int | None = None, cancel: CancelToken | None = None
) -> list[AnswerEvent]:
    request = ChatRequest((Message("user", question),), GenerationParams(max_tokens=max_tokens))
    return list(hosted.answer(request, cancel or CancelToken()))


def get_completed(events: list[AnswerEvent]) -> Completed:
    last = events[-1]
    assert isinstance(last, Completed)
    return last


def test_echoes_the_question_when_no_reply_is_queued(model: ScriptedModel, hosted: HostedModel) -> None:
    question = "<b>One</b>\n\u2063 & \\u2063 two 😀"

    assert get_completed(ask(hosted, question)).text == question
    assert [request.question for request in model.requests] == [question]


def test_returns_queued_replies_in_order_with_their_usage(model: ScriptedModel, hosted: HostedModel) -> None:
    model.enqueue(Reply("One two"), Reply("Three.", usage=(70, 30)))
    first, second = get_completed(ask(hosted, "Count to two.")), get_completed(ask(hosted, "Go on."))

    assert (first.text, first.usage, first.finish_reason) == ("One two", Usage(3, 3, 0), "stop")
    assert (second.text, second.usage) == ("Three.", Usage(70, 30, 0))


def test_a_reply_can_wait_for_its_question(model: ScriptedModel, hosted: HostedModel) -> None:
    model.enqueue(Reply("Paris.", question="And of France?"))

    assert [get_completed(ask(hosted, question)).text for question in ("Hi", "And of France?")] == ["Hi", "Paris."]


def test_stops_at_max_tokens(model: ScriptedModel, hosted: HostedModel) -> None:
    model.enqueue(Reply("la ", endless=True, seconds_per_token=0.001))
    end = get_completed(ask(hosted, "Sing.", max_tokens=5))

    assert (end.text, end.usage, end.finish_reason) == ("la la la la la ", Usage(1, 5, 0), "length")
    (request,) = model.requests
    assert request == Request([{"role": "user", "content": "Sing."}], request.params, request.pid)
    assert model.requests[0].params["max_tokens"] == 5


def test_a_gate_holds_the_answer_until_it_is_opened(model: ScriptedModel, hosted: HostedModel) -> None:
    gate = model.create_gate()
    model.enqueue(Reply("Once upon ", gate, "a time."))
    events = hosted.answer(ChatRequest((Message("user", "A story."),)), CancelToken())
    text = ""
    while text != "Once upon ":
        event = next(events)
        text += event.text if isinstance(event, TextDelta) else ""
    gate.wait_until_reached()
    gate.open()

    assert get_completed(list(events)).text == "Once upon a time."


def test_an_answer_at_a_gate_can_be_cancelled(model: ScriptedModel, hosted: HostedModel) -> None:
    gate, cancel = model.create_gate(), CancelToken()
    model.enqueue(Reply("Once upon ", gate, "a time."))

    def cancel_at_gate() -> None:
        gate.wait_until_reached()
        cancel.set()

    thread = threading.Thread(target=cancel_at_gate)
    thread.start()
    end = get_completed(ask(hosted, "A story.", cancel=cancel))
    thread.join()

    assert (end.text, end.finish_reason) == ("Once upon ", "cancelled")


def test_fails_after_its_text_when_scripted_to(model: ScriptedModel, hosted: HostedModel) -> None:
    model.enqueue(Reply("So far", error="out of memory"))

    with pytest.raises(UserError, match="out of memory"):
        ask(hosted, "Go on.")


def test_reset_drops_queued_replies_and_opens_gates(model: ScriptedModel) -> None:
    model.enqueue(Reply("Never given."))
    gate = model.create_gate()
    (model.folder / "gates" / f"{gate.path.name}.reached").touch()
    model.reset()

    assert list((model.folder / "queue").iterdir()) == []
    assert gate.path.exists()
    assert model.requests == []
    with pytest.raises(TimeoutError, match="no answer reached"):
        model.create_gate().wait_until_reached(timeout=0)


def test_pyfunc_loads_and_calls_it(tracking_uri: str, model: ScriptedModel) -> None:
    mlflow.set_tracking_uri(tracking_uri)
    loaded = mlflow.pyfunc.load_model(model.uri)
    model.enqueue(Reply("Paris."))

    assert loaded.predict({"prompt": '[{"role": "user", "content": "Hi"}]'}) == ["Paris."]


def test_an_endless_reply_needs_text() -> None:
    with pytest.raises(ValueError, match="text to repeat"):
        Reply(endless=True)


def test_importing_it_imports_no_other_package() -> None:
    script = (
        "import phi3_ui.testing, sys; print(sorted({'mlflow', 'pandas', 'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
