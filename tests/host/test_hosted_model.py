"""A model in its process: streaming, cancelling, crashing, concurrent answers."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from phi3_ui.chat.types import (
    AnswerEvent,
    CancelToken,
    ChatRequest,
    Completed,
    ContextUsage,
    GenerationParams,
    Message,
    ModelLoading,
    TextDelta,
)
from phi3_ui.errors import UserError
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.paths import ROOT
from tests.conftest import Demo
from tests.support.idle import wait_until_idle
from tests.support.model_folders import write_wrapper
from tests.support.tiny_models import TinyStore
from tests.support.tiny_phi3 import CONTEXT_LENGTH
from tests.support.trust import strict_admission

LONG = ChatRequest((Message("user", "Write a very long story about the sea."),), GenerationParams(2000, 0.0))
SHORT = ChatRequest((Message("user", "What is the capital of Germany?"),), GenerationParams(12, 0.0))


def skip_to_text(events: Iterator[AnswerEvent]) -> None:
    next(event for event in events if isinstance(event, TextDelta))


def find_end(events: Iterator[AnswerEvent]) -> Completed:
    (end,) = [event for event in events if isinstance(event, Completed)]
    return end


@pytest.fixture
def fresh(demo: Demo, tmp_path: Path) -> Iterator[HostedModel]:
    """An ONNX model that the test may kill."""
    model = HostedModel(demo.spec("prompt"), tmp_path, strict_admission(tmp_path).admit)
    yield model
    model.unload()


def test_stop_ends_the_compute_and_keeps_the_text(hosted: HostedModel) -> None:
    cancel = CancelToken()
    events = hosted.answer(LONG, cancel)
    skip_to_text(events)
    cancel.set()
    end = find_end(events)
    assert end.finish_reason == "cancelled"
    assert end.text
    assert end.usage is not None
    assert 0 < end.usage.completion_tokens < 2000
    wait_until_idle(lambda: [psutil.Process(hosted.pid)])


def test_closing_the_events_ends_the_compute(hosted_onnx: HostedModel) -> None:
    events = hosted_onnx.answer(LONG, CancelToken())
    skip_to_text(events)
    events.close()  # type: ignore[attr-defined]  # a generator
    assert find_end(hosted_onnx.answer(SHORT, CancelToken())).finish_reason == "stop"
    wait_until_idle(lambda: [psutil.Process(hosted_onnx.pid)])


def test_stop_works_during_a_long_prefill(hosted_onnx: HostedModel) -> None:
    cancel = CancelToken()
    request = ChatRequest((Message("user", "word " * 4000),), GenerationParams(5, 0.0))
    events = hosted_onnx.answer(request, cancel)
    next(events)
    cancel.set()
    end = find_end(events)
    assert end.finish_reason == "cancelled"
    assert end.text == ""


def test_an_idle_model_counts_exactly_the_tokens_of_the_later_prefill(hosted: HostedModel) -> None:
    hosted.ready.result(timeout=120)
    (count,) = hosted.count_tokens([SHORT.messages]) or (None,)
    events = hosted.answer(SHORT, CancelToken())
    skip_to_text(events)
    assert hosted.count_tokens([SHORT.messages]) is None, "it is answering"
    usage = find_end(events).usage
    assert usage is not None
    assert count == usage.prompt_tokens


def test_a_crash_during_an_answer_is_reported_in_one_sentence(fresh: HostedModel) -> None:
    events = fresh.answer(LONG, CancelToken())
    skip_to_text(events)
    os.kill(fresh.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="crashed") as raised:
        list(events)
    assert raised.value.code == "model_crashed"
    assert "SIGKILL" in str(raised.value)
    assert not fresh.is_alive


def test_a_crashed_model_answers_with_the_same_sentence(fresh: HostedModel) -> None:
    fresh.ready.result(timeout=120)
    psutil.Process(fresh.pid).kill()
    with pytest.raises(UserError, match="crashed"):
        list(fresh.answer(SHORT, CancelToken()))


def test_a_failed_load_reports_the_reason_and_the_log(demo: Demo, tmp_path: Path) -> None:
    broken = replace(demo.spec("prompt"), folder=str(write_wrapper(tmp_path / "broken")))
    model = HostedModel(broken, tmp_path, strict_admission(tmp_path).admit)
    with pytest.raises(UserError) as raised:
        list(model.answer(SHORT, CancelToken()))
    assert raised.value.code == "load_failed"
    log = Path(str(raised.value.values["log"]))
    assert "Traceback" in log.read_text(encoding="utf-8")


def test_cancelling_while_loading_ends_the_answer_at_once(fresh: HostedModel) -> None:
    cancel = CancelToken()
    events = fresh.answer(SHORT, cancel)
    assert isinstance(next(events), ModelLoading)
    cancel.set()
    assert find_end(events).finish_reason == "cancelled"
    assert not fresh.ready.done()


def test_stopping_one_of_two_concurrent_answers_leaves_the_other(hosted_onnx: HostedModel) -> None:
    cancel, answers = CancelToken(), {}
    both_started = threading.Barrier(2, timeout=60)

    def ask(name: str, cancel: CancelToken) -> None:
        request = ChatRequest(LONG.messages, GenerationParams(60, 0.0))
        events = hosted_onnx.answer(request, cancel)
        skip_to_text(events)
        both_started.wait()
        if name == "stops":
            cancel.set()
        answers[name] = find_end(events)

    threads = [
        threading.Thread(target=ask, args=("stops", cancel)),
        threading.Thread(target=ask, args=("stays", CancelToken())),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = find_end(hosted_onnx.answer(ChatRequest(LONG.messages, GenerationParams(60, 0.0)), CancelToken()))
    assert answers["stops"].finish_reason == "cancelled"
    assert answers["stays"].text == expected.text
    assert answers["stays"].usage
    assert answers["stays"].usage.completion_tokens == 60


def test_a_full_queue_is_reported_at_once(demo: Demo, tmp_path: Path) -> None:
    model = HostedModel(demo.spec("prompt"), tmp_path, strict_admission(tmp_path).admit, max_answers=1)
    cancel = CancelToken()
    events = model.answer(LONG, cancel)
    skip_to_text(events)
    with pytest.raises(UserError, match="is full") as raised:
        list(model.answer(SHORT, CancelToken()))
    assert raised.value.code == "queue_full"
    cancel.set()
    find_end(events)
    assert find_end(model.answer(SHORT, CancelToken())).finish_reason == "stop"
    model.unload()


def test_an_answer_ends_at_its_time_limit(hosted: HostedModel) -> None:
    hosted.ready.result(timeout=120)
    end = find_end(hosted.answer(replace(LONG, time_limit=0.5), CancelToken()))
    assert end.finish_reason == "timeout"
    wait_until_idle(lambda: [psutil.Process(hosted.pid)])
    assert find_end(hosted.answer(replace(SHORT, time_limit=60.0), CancelToken())).finish_reason == "stop"


@pytest.fixture(scope="module", params=["prompt", "chat"])
def tiny_model(
    request: pytest.FixtureRequest, tiny: TinyStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HostedModel]:
    """Each of the tiny models, in its own process with the fewest permissions."""
    logs = tmp_path_factory.mktemp("tiny")
    model = HostedModel(tiny.spec(request.param), logs, strict_admission(logs).admit)
    yield model
    model.unload()


def test_a_chat_longer_than_the_context_omits_its_oldest_turns_and_reports_it(tiny_model: HostedModel) -> None:
    turns = [
        message
        for number in range(30)
        for message in (Message("user", f"{number} " * 200), Message("assistant", "Yes. " * 40))
    ]
    request = ChatRequest((Message("system", "Be brief."), *turns, *SHORT.messages), GenerationParams(12, 0.0))
    events = list(tiny_model.answer(request, CancelToken()))  # the chat exceeds its context
    (context_usage,) = [event for event in events if isinstance(event, ContextUsage)]
    end = find_end(iter(events))
    assert context_usage.limit == CONTEXT_LENGTH
    assert 0 < context_usage.omitted_turns < 30
    assert end.usage
    assert end.usage.prompt_tokens == context_usage.prompt_tokens <= CONTEXT_LENGTH - 12


def test_the_engines_answer_with_the_fewest_permissions(tiny_model: HostedModel) -> None:
    end = find_end(tiny_model.answer(SHORT, CancelToken()))
    own_folder = Path(tiny_model.own_folder)
    assert end.usage
    assert end.usage.completion_tokens == 12
    assert own_folder.is_dir()
    tiny_model.unload()
    assert not own_folder.exists()


def test_max_tokens_is_reduced_to_what_fits(hosted_onnx: HostedModel) -> None:
    request = ChatRequest((Message("user", "word " * 8150),), GenerationParams(100, 0.0))
    events = hosted_onnx.answer(request, CancelToken())
    context_usage = next(event for event in events if isinstance(event, ContextUsage))
    events.close()  # type: ignore[attr-defined]  # a generator
    assert context_usage.max_tokens == 8192 - context_usage.prompt_tokens < 100


def test_a_refused_request_is_reported_with_its_reason(hosted_onnx: HostedModel) -> None:
    with pytest.raises(UserError, match="prompt and answer may have 8,192 together") as raised:
        list(hosted_onnx.answer(ChatRequest((Message("user", "word " * 9000),)), CancelToken()))
    assert raised.value.code == "context_exceeded"


def test_telemetry_is_off_in_the_child(hosted: HostedModel) -> None:
    environment = psutil.Process(hosted.pid).environ()
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert environment["HF_HUB_DISABLE_TELEMETRY"] == "True"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["DO_NOT_TRACK"] == "true"
    assert environment["HF_HUB_OFFLINE"] == "1"


PARENT = """
import sys, time
from pathlib import Path
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.protocol import ModelSpec
from tests.support.trust import strict_admission
logs = Path(sys.argv[1])
model = HostedModel(ModelSpec(*sys.argv[3:], folder=sys.argv[2]), logs, strict_admission(logs).admit)
if {wait}: model.ready.result()
print(model.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("waits_for_load", [True, False], ids=["loaded", "loading"])
@pytest.mark.parametrize(
    "exit_signal", [signal.SIGKILL, signal.SIGTERM, None], ids=["SIGKILL", "SIGTERM", "regular exit"]
)
def test_no_orphan_process_is_left_however_the_app_ends(
    tiny: TinyStore, tmp_path: Path, exit_signal: signal.Signals | None, waits_for_load: bool
) -> None:
    spec = tiny.spec("prompt")
    assert spec.folder
    arguments = [str(tmp_path), spec.folder, spec.model_id, spec.name, spec.uri, spec.contract, spec.tracking_uri]
    command = [sys.executable, "-c", PARENT.format(wait=waits_for_load), *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        if exit_signal is None:
            parent.stdin.close()
        else:
            parent.send_signal(exit_signal)
        parent.wait(timeout=30)
        child.wait(timeout=30)
        assert not child.is_running()
