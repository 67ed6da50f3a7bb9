"""The app's side of a model's process: a ChatModel over a pipe."""

import itertools
import json
import logging
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any

from phi3_ui.chat.types import (
    AnswerEvent,
    CacheStats,
    CancelToken,
    ChatRequest,
    Completed,
    Message,
    ModelLoading,
    StreamingMode,
    Timings,
)
from phi3_ui.errors import UserError
from phi3_ui.host import child_process
from phi3_ui.host.protocol import (
    AnswerFailed,
    HostEvent,
    ModelSpec,
    TokenCounts,
    pack_count,
    pack_request,
    pack_spec,
    unpack_event,
)

logger = logging.getLogger(__name__)

MAX_ANSWERS = 32
_COUNT_SECONDS = 2.0

_Inbox = queue.SimpleQueue[AnswerEvent | UserError | None]  # None: cancelled before the model was loaded


class HostedModel:
    """One model in one process. Starts loading at once. Thread-safe."""

    def __init__(self, spec: ModelSpec, logs: Path, max_answers: int = MAX_ANSWERS) -> None:
        """Start the process, which logs into the folder `logs`; it runs or queues at most `max_answers` at a time."""
        self.spec = spec
        self.cache_use: CacheStats | None = None
        """What the model last reported about its KV cache, if it has one."""
        self.ready: Future[StreamingMode] = Future()
        """Resolves when the model is loaded, or raises the UserError that ended the load."""
        self.started = self.last_used = time.monotonic()
        self._max_answers = max_answers
        self._log = logs / "model-{}.log".format(re.sub(r"[^\w.-]+", "-", spec.model_id))
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._inboxes: dict[int, _Inbox] = {}
        self._counts: dict[int, Future[tuple[int, ...] | None]] = {}
        self._has_ended = False
        self._is_unloading = False
        self._process: Future[subprocess.Popen[str]] = Future()
        self._outgoing: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        # The child lives as long as the thread that started it, so that thread also reads its output to the end.
        threading.Thread(target=self._run, name=f"host-{spec.name}", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """Whether it can answer, now or when it is loaded."""
        return not self._has_ended and not self._is_unloading

    @property
    def is_busy(self) -> bool:
        """Whether any answer is running or queued."""
        return bool(self._inboxes)

    @property
    def pid(self) -> int:
        """The process id; waits until the process has started."""
        return self._process.result().pid

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        """See ChatModel. The first event is ModelLoading if the model is not loaded yet. Raises UserError."""
        number, inbox = next(self._numbers), _Inbox()
        with self._lock:
            if self._has_ended:
                raise self._crash_error()
            if len(self._inboxes) >= self._max_answers:
                raise UserError("queue_full", model=self.spec.name, count=len(self._inboxes))
            self._inboxes[number] = inbox
        started, is_finished = time.perf_counter(), False
        try:
            self._outgoing.put(pack_request(number, request))
            cancel.on_set(lambda: self._cancel(number, inbox))
            if not self.ready.done():
                yield ModelLoading()
            while not is_finished:
                event = inbox.get()
                if isinstance(event, UserError):
                    is_finished = True
                    raise event
                if event is None:
                    event = Completed("", None, Timings(None, time.perf_counter() - started, None), "cancelled")
                is_finished = isinstance(event, Completed)
                yield event
        finally:
            if not is_finished:
                self._outgoing.put({"cancel": number})
            with self._lock:
                self._inboxes.pop(number, None)
                self.last_used = time.monotonic()

    def count_tokens(
        self, prompts: Sequence[Sequence[Message]], template: str | None = None, timeout: float = _COUNT_SECONDS
    ) -> tuple[int, ...] | None:
        """The number of tokens of each prompt; None while the model is loading or answering, or if it cannot count.

        Waits at most `timeout` seconds. Loads nothing, and does not keep an idle model loaded.
        """
        counts: Future[tuple[int, ...] | None] = Future()
        with self._lock:
            if self._has_ended or self._inboxes or not self.ready.done():
                return None
            number = next(self._numbers)
            self._counts[number] = counts
        self._outgoing.put(pack_count(number, prompts, template))
        try:
            return counts.result(timeout)
        except TimeoutError:
            logger.info("%s has not counted a prompt within %s s", self.spec.name, timeout)
            return None
        finally:
            with self._lock:
                self._counts.pop(number, None)

    def unload(self) -> None:
        """End the process and wait for its end; running answers fail with model_crashed."""
        self._is_unloading = True
        if self._process.exception():
            return  # it never started
        process = self._process.result()
        process.kill()
        process.wait()

    def _cancel(self, number: int, inbox: _Inbox) -> None:
        self._outgoing.put({"cancel": number})
        if not self.ready.done():
            inbox.put(None)

    def _run(self) -> None:
        try:
            first_line = pack_spec(self.spec)
            with self._log.open("wb") as log:
                process = child_process.spawn("phi3_ui.host.worker", [], log, reads_stdin=True)
        except (OSError, KeyError) as error:
            logger.exception("The process of %s could not be started", self.spec.name)
            self._process.set_exception(error)
            self._end(self._load_error(str(error)))
            return
        self._process.set_result(process)
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        # A separate thread: a busy model may leave the pipe full, and no other thread should wait for it.
        name = f"host-{self.spec.name}-out"
        threading.Thread(target=self._write, args=[process.stdin, first_line], name=name, daemon=True).start()
        load_error: UserError | None = None
        try:
            load_error = self._read(process.stdout)
        except Exception:  # whatever the process wrote, its users must not wait for ever
            logger.exception("%s sent a line that is not part of the protocol", self.spec.name)
            process.kill()
        process.stdout.close()
        exit_code = process.wait()
        ending = load_error or self._crash_error(exit_code)
        if not self._is_unloading:
            logger.error("%s (log: %s)", ending, self._log)
        self._outgoing.put(None)
        self._end(ending)

    def _read(self, pipe: IO[str]) -> UserError | None:
        """Deliver what the process sends until it ends; return the error that ended the load, if one did."""
        load_error: UserError | None = None
        for line in pipe:
            match json.loads(line):
                case ["ready", delivery]:
                    self.ready.set_result(delivery)
                case ["failed", detail]:
                    load_error = self._load_error(detail)
                case [int() as number, packed]:
                    self._deliver(number, unpack_event(packed))
        return load_error

    def _deliver(self, number: int, event: HostEvent) -> None:
        if isinstance(event, TokenCounts):
            if waiting := self._counts.get(number):
                waiting.set_result(event.counts)
            return
        inbox = self._inboxes.get(number)
        if inbox is None:
            return
        if isinstance(event, CacheStats):
            self.cache_use = event
        elif isinstance(event, AnswerFailed):
            error = UserError(event.code, model=self.spec.name, detail=event.detail, log=str(self._log))
            logger.warning("%s", error)
            inbox.put(error)
        else:
            inbox.put(event)

    def _end(self, error: UserError) -> None:
        with self._lock:
            self._has_ended = True
            inboxes, counts = list(self._inboxes.values()), list(self._counts.values())
        for waiting in counts:
            if not waiting.done():
                waiting.set_result(None)
        for inbox in inboxes:
            inbox.put(error)
        if not self.ready.done():
            self.ready.set_exception(error)

    def _write(self, pipe: IO[str], first_line: dict[str, Any]) -> None:
        try:
            with pipe:
                print(json.dumps(first_line), file=pipe, flush=True)
                while (message := self._outgoing.get()) is not None:
                    print(json.dumps(message), file=pipe, flush=True)
        except OSError as error:
            # The process is gone; _run reads the end of its output and reports it.
            logger.debug("%s reads no more: %s", self.spec.name, error)

    def _load_error(self, detail: str) -> UserError:
        return UserError("load_failed", model=self.spec.name, detail=detail, log=str(self._log))

    def _crash_error(self, code: int | None = None) -> UserError:
        if code is not None and code < 0:
            detail = f"ended by {signal.Signals(-code).name}"
        else:
            detail = "its process ended" if code is None else f"its process ended with code {code}"
        return UserError("model_crashed", model=self.spec.name, detail=detail)
