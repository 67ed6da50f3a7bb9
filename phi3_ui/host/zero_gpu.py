"""On a ZeroGPU Space, a Transformers pipeline computes on a GPU that is lent for each answer.

When a function decorated with `spaces.GPU` is called, the package `spaces` requests a GPU from the Space's host, charged to the
quota of the user, forks a worker from the calling process, and runs the function there. The calling process is the model's: the
app's own process computes nothing here either. The model is loaded on the CPU, and each worker moves its copy to the GPU; the
host ends workers when it needs their GPU. CUDA works only in workers.
"""

import itertools
import logging
import mmap
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import spaces
from gradio.context import LocalContext
from starlette.datastructures import Headers
from starlette.requests import Request
from typing_extensions import override

from phi3_ui.accounts.gpu_quota import TOKEN_HEADER
from phi3_ui.chat.types import (
    AnswerEvent,
    CancelToken,
    ChatRequest,
    Completed,
    QueuePosition,
    StreamingMode,
)
from phi3_ui.contracts.base import Adapter
from phi3_ui.contracts.pipeline import PipelineAdapter
from phi3_ui.host.failures import AnswerFailedError, describe_failure, error_summary
from phi3_ui.host.protocol import AnswerErrorCode, AnswerFailed
from phi3_ui.runtime.stopwatch import Stopwatch

logger = logging.getLogger(__name__)

_START_SECONDS, _TOKENS_PER_SECOND, _DEFAULT_TOKENS = 10, 20, 1024
_MAX_SECONDS = 120
"""The most that is requested for one answer: users who are not signed in have two minutes a day."""
_END_SECONDS = 2.0
"""An answer ends this much before the host would end its worker."""
_QUEUED_AFTER = 1.0  # seconds without a GPU
_FLAGS = 1024  # more than concurrent answers


class _Stop:
    """The answer was cancelled."""


class _Visit:
    """Presents a request as a Gradio event to `spaces`, which waits for a GPU as long as the event is `alive`."""

    _id = "answer"

    def __init__(self, token: str | None) -> None:
        self.alive = True
        headers = Headers({TOKEN_HEADER: token, "x-gradio-user": "app"} if token else {})
        self._request = gr.Request(Request({"type": "http", "headers": headers.raw}))

    def enter(self) -> None:
        """Make `spaces` attribute this thread's calls to this visit."""
        jobs = SimpleNamespace(active_jobs=[[self]], log_message=self._log)
        LocalContext.blocks.set(cast(Any, SimpleNamespace(_queue=jobs)))
        LocalContext.event_id.set(self._id)
        LocalContext.request.set(self._request)

    def _log(self, *, title: str, log: str, **_: object) -> None:
        logger.info("%s: %s", title, log)


_Event = AnswerEvent | Exception | _Stop | None
"""An item of an answer's queue; None is its end."""


class ZeroGpuAdapter:
    """A pipeline's adapter that computes in workers on lent GPUs. Each concurrent answer has its own worker."""

    delivery: StreamingMode = "hooked"

    def __init__(self, adapter: PipelineAdapter) -> None:
        """`adapter` is loaded on the CPU; from now on, it computes only in workers."""
        self._adapter = adapter
        self.batching = adapter.batching
        self._numbers = itertools.count()
        self._stop_flags = mmap.mmap(-1, _FLAGS)  # shared with the workers, which are forked
        self._compute = spaces.GPU(self._answer_in_worker, duration=estimate_seconds)

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        """See ChatModel. While it waits for a GPU, it reports the queue position 1, since the real one is unknown."""
        watch = Stopwatch()
        flag = next(self._numbers) % _FLAGS
        self._stop_flags[flag] = 0
        events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        visit = _Visit(request.gpu_token)
        tokenless = replace(request, gpu_token=None)
        arguments = [visit, tokenless, flag, events]
        threading.Thread(target=self._forward, args=arguments, name="zero-gpu", daemon=True).start()
        cancel.on_set(lambda: events.put(_Stop()))
        patience: float | None = _QUEUED_AFTER
        is_computing = False
        try:
            while True:
                try:
                    event = events.get(timeout=patience)
                except queue.Empty:
                    patience = None
                    yield QueuePosition(1)
                    continue
                if event is None:
                    return
                if isinstance(event, Exception):
                    raise event
                if not isinstance(event, _Stop):
                    is_computing, patience = True, None
                    yield event
                elif is_computing:
                    self._stop_flags[flag] = 1
                else:
                    visit.alive = False
                    yield Completed("", None, watch.timings(None), "cancelled")
                    return
        finally:
            self._stop_flags[flag] = 1

    def count_tokens(self, request: ChatRequest) -> int | None:
        """See SupportsCount."""
        return self._adapter.count_tokens(request)

    def _forward(self, visit: _Visit, request: ChatRequest, flag: int, events: "queue.SimpleQueue[_Event]") -> None:
        """Run the answer in a worker; queue its events, then the exception that ended it, if any, and None."""
        visit.enter()
        try:
            for event in self._compute(request, flag):
                if isinstance(event, AnswerFailed):
                    raise AnswerFailedError(event)
                events.put(event)
        except gr.Error as error:
            events.put(AnswerFailedError(explain_refusal(error)))
        except Exception as error:  # noqa: BLE001 (raised again in the caller's thread)
            events.put(error)
        events.put(None)

    def _answer_in_worker(self, request: ChatRequest, flag: int) -> Iterator[AnswerEvent | AnswerFailed]:
        """Answer, in a forked process with a GPU. Exceptions are yielded as events: `spaces` would pass on only their class name."""
        import torch

        cancel = _WorkerToken(self._stop_flags, flag, estimate_seconds(request, flag) - _END_SECONDS)
        try:
            if cancel.is_stopped:
                return
            self._adapter.move_to("cuda" if torch.cuda.is_available() else "cpu")
            for event in self._adapter.answer(request, cancel):
                if isinstance(event, Completed) and event.finish_reason == "cancelled" and not cancel.is_stopped:
                    event = replace(event, finish_reason="timeout")
                yield event
        except Exception as error:
            logger.exception("The answer in the worker failed")
            yield describe_failure(error)


def lend_gpu(adapter: Adapter) -> Adapter:
    """Return a pipeline's adapter wrapped to compute on lent GPUs, and any other adapter unchanged."""
    return ZeroGpuAdapter(adapter) if isinstance(adapter, PipelineAdapter) else adapter


class _WorkerToken(CancelToken):
    """The CancelToken of an answer in a worker: set through a shared flag by the model's process, or at its deadline."""

    def __init__(self, flags: mmap.mmap, flag: int, seconds: float) -> None:
        super().__init__()
        self._flags, self._flag = flags, flag
        self._deadline = time.monotonic() + seconds

    @property
    def is_stopped(self) -> bool:
        """Whether the answer was cancelled."""
        return bool(self._flags[self._flag])

    @override
    def is_set(self) -> bool:
        return super().is_set() or self.is_stopped or time.monotonic() > self._deadline


def estimate_seconds(request: ChatRequest, _flag: int) -> int:
    """Return the seconds of GPU time to request: enough to move the model and write the longest answer at a modest rate.

    A request for more than what is left of a user's quota is refused, but only the time used is charged.
    """
    seconds = _START_SECONDS + (request.params.max_tokens or _DEFAULT_TOKENS) / _TOKENS_PER_SECOND
    if request.time_limit is not None:
        seconds = min(seconds, _START_SECONDS + request.time_limit)
    return int(min(seconds, _MAX_SECONDS))


def explain_refusal(error: gr.Error) -> AnswerFailed:
    """Return the failure for an error of `spaces`, whose errors differ only in their titles and messages."""
    title, message = str(error.title), str(error.message)
    code: AnswerErrorCode = "gpu_lost"
    if "No GPU was available" in message:
        code = "gpu_busy"
    elif any(word in title for word in ("quota", "credits", "duration")):
        code = "gpu_quota"
    elif "token" in message:
        code = "gpu_visitor_unknown"
    return AnswerFailed(code, error_summary(Exception(message)))
