"""The app's side of a model's process: a ChatModel over a pipe."""

import contextlib
import itertools
import json
import logging
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phi3_ui.chat.types import CacheUse, Cancel, ChatRequest, Completed, Delivery, Event, Loading, Timings
from phi3_ui.errors import UserError
from phi3_ui.host import child_process
from phi3_ui.host.protocol import AnswerFailed, ModelSpec, pack_request, unpack_event

logger = logging.getLogger(__name__)

MAX_ANSWERS = 32

_Inbox = queue.SimpleQueue[Event | UserError | None]  # None: cancelled before it began


class HostedModel:
    """One model in one process. Starts loading at once; up to `max_answers` may run or wait in line at the same time.

    `ready` resolves to the model's delivery, or to the UserError that ended the load. `cache` is what the model last said
    of its prompt cache, if it has one.
    """

    def __init__(self, spec: ModelSpec, logs: Path, max_answers: int = MAX_ANSWERS) -> None:
        self.spec = spec
        self.cache_use: CacheUse | None = None
        self._max_answers = max_answers
        self.ready: Future[Delivery] = Future()
        self.started = self.last_used = time.monotonic()
        self._log = logs / f"model-{spec.model_id}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._inboxes: dict[int, _Inbox] = {}
        self._ended = False
        self._unloading = False
        self._process: Future[subprocess.Popen[str]] = Future()
        self._outgoing: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        # The child lives as long as the thread that started it, so that thread is the one that reads it to its end.
        threading.Thread(target=self._run, name=f"host-{spec.name}", daemon=True).start()
        threading.Thread(target=self._write, name=f"host-{spec.name}-out", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        return not self._ended and not self._unloading

    @property
    def is_busy(self) -> bool:
        return bool(self._inboxes)

    @property
    def pid(self) -> int:
        return self._process.result().pid

    def answer(self, request: ChatRequest, cancel: Cancel) -> Iterator[Event]:
        """See ChatModel. A Loading comes first if the model is not loaded yet. Raises UserError."""
        number, inbox = next(self._numbers), _Inbox()
        with self._lock:
            if self._ended:
                raise self._crashed()
            if len(self._inboxes) >= self._max_answers:
                raise UserError("queue_full", model=self.spec.name, count=len(self._inboxes))
            self._inboxes[number] = inbox
        started, finished = time.perf_counter(), False
        try:
            self._outgoing.put(pack_request(number, request))
            cancel.on_set(lambda: self._cancel(number, inbox))
            if not self.ready.done():
                yield Loading()
            while not finished:
                event = inbox.get()
                if isinstance(event, UserError):
                    finished = True
                    raise event
                if event is None:
                    event = Completed("", None, Timings(None, time.perf_counter() - started, None), "cancelled")
                finished = isinstance(event, Completed)
                yield event
        finally:
            if not finished:
                self._outgoing.put({"cancel": number})
            with self._lock:
                self._inboxes.pop(number, None)
                self.last_used = time.monotonic()

    def unload(self) -> None:
        """End the process and wait for its end; answers that run end as crashed."""
        self._unloading = True
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
            with self._log.open("wb") as log:
                process = child_process.spawn("phi3_ui.host.worker", [], log, reads_stdin=True)
        except OSError as error:
            self._process.set_exception(error)
            self._end(UserError("load_failed", model=self.spec.name, detail=str(error), log=str(self._log)))
            return
        self._process.set_result(process)
        assert process.stdout is not None
        failed: UserError | None = None
        for line in process.stdout:  # to its end, which is the process's
            match json.loads(line):
                case ["ready", delivery]:
                    self.ready.set_result(delivery)
                case ["failed", detail]:
                    failed = UserError("load_failed", model=self.spec.name, detail=detail, log=str(self._log))
                case [int() as number, packed]:
                    self._deliver(number, unpack_event(packed))
        process.stdout.close()
        code = process.wait()
        ending = failed or self._crashed(code)
        if not self._unloading:
            logger.error("%s (log: %s)", ending, self._log)
        self._outgoing.put(None)
        self._end(ending)

    def _deliver(self, number: int, event: Event | AnswerFailed) -> None:
        inbox = self._inboxes.get(number)
        if inbox is None:
            return
        if isinstance(event, CacheUse):
            self.cache_use = event
        elif isinstance(event, AnswerFailed):
            inbox.put(UserError(event.code, model=self.spec.name, detail=event.detail, log=str(self._log)))
        else:
            inbox.put(event)

    def _end(self, error: UserError) -> None:
        with self._lock:
            self._ended = True
            inboxes = list(self._inboxes.values())
        for inbox in inboxes:
            inbox.put(error)
        if not self.ready.done():
            self.ready.set_exception(error)

    def _write(self) -> None:
        # A thread of its own: a model that computes may leave the pipe full, and nobody else should wait for it.
        # If the process is gone, _run reads its end and says so.
        with contextlib.suppress(OSError):
            pipe = self._process.result().stdin
            assert pipe is not None
            with pipe:
                print(json.dumps(asdict(self.spec)), file=pipe, flush=True)
                while (message := self._outgoing.get()) is not None:
                    print(json.dumps(message), file=pipe, flush=True)

    def _crashed(self, code: int | None = None) -> UserError:
        if code is not None and code < 0:
            detail = f"ended by {signal.Signals(-code).name}"
        else:
            detail = "its process ended" if code is None else f"its process ended with code {code}"
        return UserError("model_crashed", model=self.spec.name, detail=detail)
