"""A pipeline on lent GPUs: the package `spaces` itself, in a model's process, against a fake of the host that lends them."""

import phi3_ui.ui.quick_gradio  # noqa: F401, I001  (before any other import of Gradio; these tests are the first to be collected that do)
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import gradio as gr
import psutil
import pytest

from phi3_ui.chat.types import (
    AnswerEvent,
    Batching,
    CancelToken,
    ChatRequest,
    Completed,
    GenerationParams,
    Message,
    QueuePosition,
    TextDelta,
    Timings,
)
from phi3_ui.errors import UserError
from phi3_ui.host import zero_gpu, zero_gpu_report
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.zero_gpu import ZeroGpuAdapter, estimate_seconds, explain_refusal
from tests.conftest import Demo
from tests.support.trust import strict_admission
from tests.support.zero_gpu_api import DeviceApi, serve_device_api

SITE = Path(__file__).parents[1] / "support" / "zero_gpu_site"
SHORT = ChatRequest(
    (Message("user", "What is the capital of Germany?"),), GenerationParams(8, 0.0), gpu_token="h.eyJ1c2VyIjogMX0.s"
)
LONG = ChatRequest((Message("user", "Write a very long story about the sea."),), GenerationParams(2000, 0.0))


def _become_space(api: DeviceApi, patch: pytest.MonkeyPatch) -> None:
    path = os.pathsep.join(filter(None, [str(SITE), os.environ.get("PYTHONPATH")]))
    for name, value in {**api.environment, "PYTHONPATH": path}.items():
        patch.setenv(name, value)


@pytest.fixture(scope="module")
def api() -> Iterator[DeviceApi]:
    with serve_device_api() as api:
        yield api


@pytest.fixture(scope="module")
def model(api: DeviceApi, demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostedModel]:
    """The demo's pipeline on a ZeroGPU Space, with the fewest permissions."""
    logs = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as patch:
        _become_space(api, patch)
        model = HostedModel(demo.spec("chat"), logs, strict_admission(logs).admit)
        model.ready.result()
    yield model
    model.unload()


def test_an_answer_is_computed_in_a_worker_and_charged_to_the_users_quota(api: DeviceApi, model: HostedModel) -> None:
    api.calls.clear()
    events = list(model.answer(SHORT, CancelToken()))
    (end,) = [event for event in events if isinstance(event, Completed)]
    assert end.text
    assert end.usage
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == end.text
    (request,) = api.find_calls("/schedule")
    assert request["token"] == SHORT.gpu_token
    assert request["durationSeconds"] == "10"
    (worker,) = psutil.Process(model.pid).children()
    assert api.find_calls("/allow") == [{"allowToken": "loan", "pid": str(worker.pid)}]
    assert api.released.acquire(timeout=30)


def test_stop_reaches_the_worker(api: DeviceApi, model: HostedModel) -> None:
    cancel = CancelToken()
    for event in model.answer(LONG, cancel):
        if isinstance(event, TextDelta):
            cancel.set()
    assert isinstance(event, Completed)
    assert event.finish_reason == "cancelled"
    assert event.usage
    assert event.usage.completion_tokens < 100
    assert api.released.acquire(timeout=30)


def test_a_question_waits_for_its_gpu(api: DeviceApi, model: HostedModel) -> None:
    api.may_lend.clear()
    events = model.answer(SHORT, CancelToken())
    assert isinstance(next(events), QueuePosition)
    api.may_lend.set()
    assert any(isinstance(event, TextDelta) for event in events)
    assert api.released.acquire(timeout=30)


def test_a_stopped_question_leaves_the_gpu_queue(api: DeviceApi, model: HostedModel) -> None:
    api.may_lend.clear()
    cancel = CancelToken()
    events = model.answer(SHORT, cancel)
    assert isinstance(next(events), QueuePosition)
    cancel.set()
    (end,) = events
    assert isinstance(end, Completed)
    assert end.finish_reason == "cancelled"
    assert api.has_left.wait(30)
    api.may_lend.set()


@pytest.mark.parametrize(("wait", "words"), [((5, 3600.0), "5s left"), ((0, -1.0), "maximum allowed")])
def test_a_used_up_quota_is_reported(
    api: DeviceApi, model: HostedModel, monkeypatch: pytest.MonkeyPatch, wait: tuple[int, float], words: str
) -> None:
    monkeypatch.setattr(api, "wait", wait)
    with pytest.raises(UserError, match=words) as raised:
        list(model.answer(SHORT, CancelToken()))
    assert raised.value.code == "gpu_quota"


def test_a_refused_request_is_reported(model: HostedModel) -> None:
    request = replace(SHORT, params=GenerationParams(8, temperature=-1.0))
    with pytest.raises(UserError) as raised:
        list(model.answer(request, CancelToken()))
    assert raised.value.code == "refused"


def test_a_worker_killed_by_the_host_is_replaced(model: HostedModel) -> None:
    events = model.answer(LONG, CancelToken())
    next(event for event in events if isinstance(event, TextDelta))
    for worker in psutil.Process(model.pid).children():
        worker.kill()
    with pytest.raises(UserError) as raised:
        list(events)
    assert raised.value.code == "gpu_lost"
    assert any(isinstance(event, Completed) for event in model.answer(SHORT, CancelToken()))


class EndlessModel:
    """Generates text until it is cancelled."""

    batching = Batching("pipeline")

    def move_to(self, device: str) -> None:
        pass

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        while not cancel.is_set():
            yield TextDelta("on ")
        yield Completed("on", None, Timings(None, 0.1, None), "cancelled")


@pytest.mark.engine  # torch
@pytest.mark.parametrize("is_stopped", [True, False])
def test_an_answer_ends_before_the_host_ends_it(monkeypatch: pytest.MonkeyPatch, is_stopped: bool) -> None:
    monkeypatch.setattr(zero_gpu, "_END_SECONDS", -600.0 if is_stopped else estimate_seconds(SHORT, 0))
    cancel = CancelToken()
    for event in ZeroGpuAdapter(cast(Any, EndlessModel())).answer(SHORT, cancel):  # runs in this process
        if is_stopped and isinstance(event, TextDelta):
            cancel.set()
    assert isinstance(event, Completed)
    assert event.finish_reason == ("cancelled" if is_stopped else "timeout")


@pytest.mark.parametrize(
    ("title", "message", "code"),
    [
        (
            "ZeroGPU quota exceeded",
            "You have exceeded your free ZeroGPU quota (60s requested vs. 3s left).",
            "gpu_quota",
        ),
        ("ZeroGPU pending credits exceeded", "You have too many ZeroGPU credits allocated", "gpu_quota"),
        ("ZeroGPU quota exceeded", "No GPU was available after 60s. Try re-running outside of examples", "gpu_busy"),
        ("ZeroGPU queue timeout", "No GPU was available after 60s Retry later", "gpu_busy"),
        ("ZeroGPU client error", "Expired ZeroGPU proxy token", "gpu_visitor_unknown"),
        ("ZeroGPU worker error", "GPU task aborted", "gpu_lost"),
    ],
)
def test_each_refusal_has_its_own_code(title: str, message: str, code: str) -> None:
    assert explain_refusal(gr.Error(message, title=title)).code == code


@pytest.mark.parametrize(
    ("max_tokens", "time_limit", "seconds"), [(None, None, 61), (8, None, 10), (8000, None, 120), (8000, 30.0, 40)]
)
def test_a_gpu_is_requested_for_at_most_the_longest_answer(
    max_tokens: int | None, time_limit: float | None, seconds: int
) -> None:
    assert estimate_seconds(ChatRequest((), GenerationParams(max_tokens), time_limit=time_limit), 0) == seconds


@pytest.mark.server
def test_the_use_of_gpus_is_reported_to_the_host(
    api: DeviceApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _become_space(api, monkeypatch)
    with zero_gpu_report.report():
        pass
    assert api.find_calls("/startup-report") == [{}]
    assert not caplog.records


def test_a_failed_report_to_the_host_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(zero_gpu_report, "_MODULE", "phi3_ui.host.missing")
    with zero_gpu_report.report():
        pass
    assert "Reporting the use of ZeroGPU to the host failed" in caplog.text
    assert "phi3_ui.host.missing" in caplog.text
