"""A model in its own process, as a ChatModel. See model_process.py for the process and its pipes."""

import itertools
import logging
import queue
import re
import reprlib
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from phi3_ui.chat.types import (
    AnswerEvent,
    Batching,
    CacheStats,
    CancelToken,
    ChatRequest,
    Completed,
    FinishReason,
    Message,
    ModelLoading,
    StreamingMode,
    TextDelta,
    Timings,
)
from phi3_ui.errors import UserError
from phi3_ui.host.model_process import Admit, ModelProcess
from phi3_ui.host.protocol import (
    HEARTBEAT_SECONDS,
    AnswerFailed,
    Heartbeat,
    HostEvent,
    ModelSpec,
    TokenCounts,
    pack_count,
    pack_request,
    unpack_detail,
    unpack_event,
    unpack_ready,
)
from phi3_ui.host.watchdog import GRACE_SECONDS, Watchdog

logger = logging.getLogger(__name__)

MAX_ANSWERS = 32
MAX_CHARACTERS = 4_000_000
"""Per answer: more than any model writes, and a bound on the memory that a hostile process can make the app use."""
_MAX_EVENTS = 500_000
"""Per answer, or without any reader: a healthy model would need hours for so many, since it sends text in batches."""
_COUNT_SECONDS = 2.0


@dataclass(frozen=True)
class _Released:
    """The app ends an answer because the process did not."""

    reason: FinishReason
    kills_model: bool


class _Inbox(queue.SimpleQueue[AnswerEvent | UserError | _Released]):
    """The events of one answer that its reader has not consumed yet."""

    def __init__(self) -> None:
        self._events = self._characters = 0
        self.is_released = False
        """The reader drains the remaining events without passing them on."""

    def count(self, event: HostEvent) -> None:
        """Count an event that the process sent. Raise ValueError if the answer exceeds its limits."""
        self._events += 1
        if isinstance(event, TextDelta):
            self._characters += len(event.text)
        whole = len(event.text) if isinstance(event, Completed) else 0
        if self._events > _MAX_EVENTS or max(self._characters, whole) > MAX_CHARACTERS:
            raise ValueError(f"an endless answer: {self._characters} characters in {self._events} events")


@dataclass(frozen=True)
class _Count:
    """A pending request to count tokens."""

    prompts: int
    counts: Future[tuple[int, ...] | None]


class HostedModel:
    """One model in one process. Starts loading immediately. Thread-safe."""

    def __init__(  # keyword-only options with defaults
        self,
        spec: ModelSpec,
        logs: Path,
        admit: Admit,
        *,
        max_answers: int = MAX_ANSWERS,
        grace: float | None = None,
    ) -> None:
        """Start the process, if `admit` allows it.

        It logs to the folder `logs`, and runs or queues at most `max_answers` at a time.
        An answer that has not ended `grace` seconds after Stop or its time limit is released. Watchdog decides when the
        process is killed.
        """
        self.spec = spec
        self.cache_use: CacheStats | None = None
        """The model's latest report about its KV cache, if it has one."""
        self.batching: Batching | None = None
        """Whether it decodes several answers in one step; None until it is loaded, or if unknown."""
        self.ready: Future[StreamingMode] = Future()
        """Resolves when the model is loaded, or raises the UserError that ended the load."""
        self.started = self.last_used = time.monotonic()
        self._max_answers = max_answers
        self.log = logs / "model-{}.log".format(re.sub(r"[^\w.-]+", "-", spec.model_id))
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._inboxes: dict[int, _Inbox] = {}
        self._unread = _Inbox()  # counts events without a reader since the last request
        self._counts: dict[int, _Count] = {}
        self._may_count = threading.Semaphore()  # one count at a time, including one whose caller timed out
        self._has_ended = False
        self._ending: UserError | None = None
        self._hangs = False
        self._load_error: UserError | None = None
        self._watchdog = Watchdog(
            GRACE_SECONDS if grace is None else grace, self._release, self._kill_hanging, spec.name
        )
        self._process = ModelProcess(spec, self.log, admit, self._receive, self._handle_end)
        self._process.start()

    @property
    def is_alive(self) -> bool:
        """Whether it can answer, now or once it is loaded."""
        return not self._has_ended and not self._process.is_unloading and not self._hangs

    @property
    def is_busy(self) -> bool:
        """Whether any answer is running or queued."""
        return bool(self._inboxes)

    @property
    def pid(self) -> int:
        """The process id. Blocks until the process has started."""
        return self._process.pid

    def measure_memory(self) -> int | None:
        """Return the bytes of main memory that its process and children use; None if it has ended."""
        try:
            process = psutil.Process(self.pid)
            return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
        except psutil.Error:
            return None

    @property
    def own_folder(self) -> str:
        """The process's private folder, removed when it ends."""
        return self._process.folder

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        """See ChatModel. The first event is ModelLoading if the model is still loading. Raises UserError."""
        number, inbox = next(self._numbers), _Inbox()
        with self._lock:
            if self._has_ended:
                raise self._ending or self._process.crash_error()
            if len(self._inboxes) >= self._max_answers:
                raise UserError("queue_full", model=self.spec.name, count=len(self._inboxes))
            self._inboxes[number], self._unread = inbox, _Inbox()
        started, is_finished = time.perf_counter(), False
        pieces: list[str] = []
        self._watchdog.add(number, request)
        try:
            self._process.send(pack_request(number, request))
            cancel.on_set(lambda: self._cancel(number, inbox))
            if not self.ready.done():
                yield ModelLoading()
            while not is_finished:
                event = inbox.get()
                if isinstance(event, UserError):
                    is_finished = True
                    raise event
                if isinstance(event, TextDelta):
                    pieces.append(event.text)
                if isinstance(event, _Released):
                    timings = Timings(None, time.perf_counter() - started, None)
                    event = Completed("".join(pieces), None, timings, event.reason, event.kills_model)
                is_finished = isinstance(event, Completed)
                if is_finished or not inbox.is_released:
                    yield event
        finally:
            if not is_finished:
                self._tell_to_end(number)
            with self._lock:
                self._inboxes.pop(number, None)
                self.last_used = time.monotonic()

    def count_tokens(
        self, prompts: Sequence[Sequence[Message]], template: str | None = None, timeout: float = _COUNT_SECONDS
    ) -> tuple[int, ...] | None:
        """Return the number of tokens of each prompt; None while the model is loading or answering, or if it cannot count.

        Waits at most `timeout` seconds, plus a quarter of that for another count to finish. Loads nothing, and does not
        reset the idle time of a model.
        """
        counts: Future[tuple[int, ...] | None] = Future()
        if self._has_ended or self._inboxes or not self._may_count.acquire(timeout=timeout / 4):
            return None
        with self._lock:
            if self._has_ended or self._inboxes or not self.ready.done():
                self._may_count.release()
                return None
            number = next(self._numbers)
            self._counts[number] = _Count(len(prompts), counts)
        self._process.send(pack_count(number, prompts, template))
        try:
            return counts.result(timeout)
        except TimeoutError:
            logger.info("%s did not count the tokens of a prompt within %s s", self.spec.name, timeout)
            return None

    def unload_unless_busy(self) -> bool:
        """Unload the model, or return False if it is answering.

        A model that hangs does not count as answering: its answers fail with model_hung. Blocks until that is known.
        """
        if self.is_busy and self.is_alive:
            delivers_whole = self.ready.done() and self.ready.result() == "whole"  # sends no heartbeat before its end
            if delivers_whole or not self.ready.done() or self._watchdog.await_progress(2 * HEARTBEAT_SECONDS):
                return False
            self._hangs = True
        self.unload()
        return True

    def unload(self) -> None:
        """End the process and wait for its exit; running answers fail with model_crashed.

        A model that is still being admitted, which may include a download, is never started.
        """
        self._process.unload()

    def _cancel(self, number: int, inbox: _Inbox) -> None:
        self._tell_to_end(number)
        if not self.ready.done():
            inbox.put(_Released("cancelled", kills_model=False))

    def _tell_to_end(self, number: int) -> None:
        self._process.send({"cancel": number})
        self._watchdog.expect_end(number)

    def _release(self, number: int, reason: FinishReason, kills_model: bool) -> None:
        self._hangs = self._hangs or kills_model  # first, so that its reader's next request gets a new process
        if inbox := self._inboxes.get(number):
            inbox.is_released = True  # a flood may have left more events than can be passed on in time
            inbox.put(_Released(reason, kills_model))

    def _kill_hanging(self) -> None:
        self._hangs = True
        self._process.kill()

    def _receive(self, message: Any) -> None:
        """Handle a message from the process. Raise an exception if the protocol does not allow it."""
        match message:
            case ["ready", delivery, batching] if not self.ready.done():
                mode, self.batching = unpack_ready(delivery, batching)
                self.ready.set_result(mode)
                self._watchdog.set_ready()
            case ["failed", detail] if not self.ready.done():
                detail = unpack_detail(detail)
                self._load_error = UserError("load_failed", model=self.spec.name, detail=detail, log=str(self.log))
            case [int() as number, packed] if self.ready.done():
                self._deliver(number, unpack_event(packed))
            case _:
                raise ValueError(f"not a message: {reprlib.repr(message)}")

    def _deliver(self, number: int, event: HostEvent) -> None:
        inbox = self._inboxes.get(number, self._unread)
        inbox.count(event)
        if isinstance(event, TokenCounts):
            self._deliver_counts(number, event.counts)
            return
        self._watchdog.record_event(number, event)
        if isinstance(event, Completed | AnswerFailed):
            self._watchdog.end_answer(number)
        if inbox is self._unread or isinstance(event, Heartbeat):
            return
        if isinstance(event, CacheStats):
            self.cache_use = event
        elif isinstance(event, AnswerFailed):
            error = UserError(event.code, model=self.spec.name, detail=event.detail, log=str(self.log))
            logger.warning("%s", error)
            inbox.put(error)
        else:
            inbox.put(event)

    def _deliver_counts(self, number: int, counts: tuple[int, ...] | None) -> None:
        with self._lock:
            if not (pending := self._counts.get(number)):
                return
            if counts is not None and len(counts) != pending.prompts:
                raise ValueError(f"{len(counts)} counts of {pending.prompts} prompts")
            del self._counts[number]
        self._may_count.release()
        pending.counts.set_result(counts)

    def _handle_end(self, error: UserError) -> None:
        """Fail or release every waiting caller: the process has ended, or was never started."""
        self._watchdog.close()
        error = UserError("model_hung", model=self.spec.name) if self._hangs else self._load_error or error
        if self.own_folder and not self._process.is_unloading:
            logger.error("%s (log: %s)", error, self.log)
        with self._lock:
            self._has_ended, self._ending = True, error
            inboxes, counts = list(self._inboxes.items()), list(self._counts.values())
            self._counts.clear()
        for pending in counts:
            pending.counts.set_result(None)
        for number, inbox in inboxes:
            reason = self._watchdog.overdue_reason(number) if self._hangs else None
            inbox.put(_Released(reason, kills_model=True) if reason else error)
        if not self.ready.done():
            self.ready.set_exception(error)
