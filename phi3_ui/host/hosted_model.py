"""The app's side of a model's process: a ChatModel over a pipe."""

import contextlib
import itertools
import json
import logging
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from phi3_ui.chat.types import (
    AnswerEvent,
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
from phi3_ui.host import child_process, containment
from phi3_ui.host.protocol import (
    SIGN_OF_LIFE_SECONDS,
    Alive,
    AnswerFailed,
    HostEvent,
    ModelSpec,
    TokenCounts,
    pack_count,
    pack_request,
    pack_spec,
    unpack_event,
)
from phi3_ui.host.watchdog import GRACE_SECONDS, Watchdog
from phi3_ui.testing import find_script_folder

logger = logging.getLogger(__name__)

MAX_ANSWERS = 32
_COUNT_SECONDS = 2.0
_KILL_SECONDS = 10.0  # the kernel takes longer only while a device does not respond

Admit = Callable[[ModelSpec], AbstractContextManager[ModelSpec]]
"""Decides whether a model may be loaded: within the block, its spec with the folder to load; raises UserError if it may not."""


@dataclass(frozen=True)
class _Released:
    """The app ends an answer that the process has not ended."""

    reason: FinishReason
    kills_model: bool


_Inbox = queue.SimpleQueue[AnswerEvent | UserError | _Released]


class HostedModel:
    """One model in one process. Starts loading at once. Thread-safe."""

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

        It logs into the folder `logs`, and runs or queues at most `max_answers` at a time.
        An answer that has not ended `grace` seconds after Stop or its time limit is released; see Watchdog for the process.
        """
        self.spec = spec
        self._admit = admit
        self.cache_use: CacheStats | None = None
        """What the model last reported about its KV cache, if it has one."""
        self.ready: Future[StreamingMode] = Future()
        """Resolves when the model is loaded, or raises the UserError that ended the load."""
        self.started = self.last_used = time.monotonic()
        self._max_answers = max_answers
        self.own_folder = ""
        """Where the process works; removed at its end."""
        self.log = logs / "model-{}.log".format(re.sub(r"[^\w.-]+", "-", spec.model_id))
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._inboxes: dict[int, _Inbox] = {}
        self._counts: dict[int, Future[tuple[int, ...] | None]] = {}
        self._has_ended = False
        self._ending: UserError | None = None
        self._is_unloading = False
        self._hangs = False
        self._is_collected = False
        self._gone = threading.Event()
        self._process: Future[subprocess.Popen[str]] = Future()
        self._outgoing: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._watchdog = Watchdog(
            GRACE_SECONDS if grace is None else grace, self._release, self._kill_hanging, spec.name
        )
        # The child lives as long as the thread that started it, so that thread also reads its output to the end.
        threading.Thread(target=self._run, name=f"host-{spec.name}", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """Whether it can answer, now or when it is loaded."""
        return not self._has_ended and not self._is_unloading and not self._hangs

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
                raise self._ending or self._crash_error()
            if len(self._inboxes) >= self._max_answers:
                raise UserError("queue_full", model=self.spec.name, count=len(self._inboxes))
            self._inboxes[number] = inbox
        started, is_finished = time.perf_counter(), False
        pieces: list[str] = []
        self._watchdog.add(number, request)
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
                if isinstance(event, TextDelta):
                    pieces.append(event.text)
                elif isinstance(event, _Released):
                    timings = Timings(None, time.perf_counter() - started, None)
                    event = Completed("".join(pieces), None, timings, event.reason, event.kills_model)
                is_finished = isinstance(event, Completed)
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

    def unload_unless_busy(self) -> bool:
        """Unload the model unless it is answering someone; False then.

        A model that hangs does not count as answering: its answers fail with model_hung. Waits until that is known.
        """
        if self.is_busy and self.is_alive:
            delivers_whole = self.ready.done() and self.ready.result() == "whole"  # shows no life before its end
            if delivers_whole or not self.ready.done() or self._watchdog.await_movement(2 * SIGN_OF_LIFE_SECONDS):
                return False
            self._hangs = True
        self.unload()
        return True

    def unload(self) -> None:
        """End the process and wait for its end; running answers fail with model_crashed.

        A model that is still being admitted, which may take a download, is never started.
        """
        with self._lock:
            self._is_unloading = True
        if not self._process.done() or self._process.exception():
            return
        self._kill()
        if not self._gone.wait(_KILL_SECONDS):
            logger.error("The process %s of %s does not end", self.pid, self.spec.name)

    def _cancel(self, number: int, inbox: _Inbox) -> None:
        self._tell_to_end(number)
        if not self.ready.done():
            inbox.put(_Released("cancelled", kills_model=False))

    def _tell_to_end(self, number: int) -> None:
        self._outgoing.put({"cancel": number})
        self._watchdog.expect_end(number)

    def _release(self, number: int, reason: FinishReason, kills_model: bool) -> None:
        if inbox := self._inboxes.get(number):
            inbox.put(_Released(reason, kills_model))

    def _kill_hanging(self) -> None:
        self._hangs = True
        self._kill()

    def _kill(self) -> None:
        process = self._process.result()
        with self._lock:
            if not self._is_collected:
                child_process.kill_group(process)

    def _run(self) -> None:
        try:
            with self._admit(self.spec) as admitted:
                self._host(admitted)
        except UserError as error:
            logger.warning("%s", error)
            self._fail(error, error)
        except Exception as error:  # whatever is wrong with its files, its users must not wait for ever
            logger.exception("%s could not be admitted", self.spec.name)
            self._fail(error, self._load_error(type(error).__name__))
        self._gone.set()

    def _fail(self, cause: Exception, error: UserError) -> None:
        """The process was not started, because of `cause`."""
        if not self._process.done():
            self._process.set_exception(cause)
        self._watchdog.close()
        self._end(error)

    def _host(self, admitted: ModelSpec) -> None:
        """Start the process of a model that may be loaded, and serve it until its end."""
        with contextlib.ExitStack() as own_folder:
            try:
                first_line = pack_spec(admitted)
                contract_package = str(first_line["contract"]).partition(".")[0]
                contained = own_folder.enter_context(containment.prepare(_grants(admitted, contract_package)))
                with self._lock:
                    process = None if self._is_unloading else self._spawn(contained)
                    if process:
                        self._process.set_result(process)
            except (OSError, KeyError) as error:
                logger.exception("The process of %s could not be started", self.spec.name)
                self._fail(error, self._load_error(str(error)))
                return
            if process is None:
                unloaded = self._crash_error()
                self._fail(unloaded, unloaded)
                return
            self.own_folder = contained.folder
            self._follow(process, first_line)

    def _spawn(self, contained: containment.Containment) -> "subprocess.Popen[str]":
        containment.warn_unless_isolated()
        with self.log.open("wb") as log:
            return child_process.spawn("phi3_ui.host.worker", [], log, reads_stdin=True, containment=contained)

    def _follow(self, process: "subprocess.Popen[str]", first_line: dict[str, Any]) -> None:
        """Exchange lines with the process until it has ended."""
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
            self._kill()
        process.stdout.close()
        child_process.await_exit(process)
        self._kill()  # what it has started
        with self._lock:
            exit_code = process.wait()
            self._is_collected = True
        self._watchdog.close()
        ending = load_error or self._crash_error(exit_code)
        if self._hangs:
            ending = UserError("model_hung", model=self.spec.name)
        if not self._is_unloading:
            logger.error("%s (log: %s)", ending, self.log)
        self._outgoing.put(None)
        self._end(ending)

    def _read(self, pipe: IO[str]) -> UserError | None:
        """Deliver what the process sends until it ends; return the error that ended the load, if one did."""
        load_error: UserError | None = None
        for line in pipe:
            match json.loads(line):
                case ["ready", delivery]:
                    self.ready.set_result(delivery)
                    self._watchdog.set_ready()
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
        self._watchdog.notice(number, event)
        if isinstance(event, Completed | AnswerFailed):
            self._watchdog.end_answer(number)
        inbox = self._inboxes.get(number)
        if inbox is None or isinstance(event, Alive):
            return
        if isinstance(event, CacheStats):
            self.cache_use = event
        elif isinstance(event, AnswerFailed):
            error = UserError(event.code, model=self.spec.name, detail=event.detail, log=str(self.log))
            logger.warning("%s", error)
            inbox.put(error)
        else:
            inbox.put(event)

    def _end(self, error: UserError) -> None:
        with self._lock:
            self._has_ended, self._ending = True, error
            inboxes, counts = list(self._inboxes.items()), list(self._counts.values())
        for waiting in counts:
            if not waiting.done():
                waiting.set_result(None)
        for number, inbox in inboxes:
            reason = self._watchdog.was_told(number) if self._hangs else None
            inbox.put(_Released(reason, kills_model=True) if reason else error)
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
        return UserError("load_failed", model=self.spec.name, detail=detail, log=str(self.log))

    def _crash_error(self, code: int | None = None) -> UserError:
        if code is not None and code < 0:
            detail = f"ended by {signal.Signals(-code).name}"
        else:
            detail = "its process ended" if code is None else f"its process ended with code {code}"
        return UserError("model_crashed", model=self.spec.name, detail=detail)


def _grants(spec: ModelSpec, package: str) -> containment.Grants:
    """What the process of an admitted model may use."""
    folders, variables = (spec.folders, spec.variables) if spec.level == "code" else ((), ())
    if script := find_script_folder(spec.folder):
        folders = (*folders, script)
    return containment.Grants(spec.folder, spec.level, folders, (package,), variables)
