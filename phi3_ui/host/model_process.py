"""A model's process: admitted, confined and started, its pipes read and written, and ended."""

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

from phi3_ui.chat.json_values import has_more_values
from phi3_ui.contracts.pipeline import PipelineContract
from phi3_ui.contracts.registry import get_contract
from phi3_ui.errors import UserError
from phi3_ui.host import child_process, containment
from phi3_ui.host.protocol import ModelSpec, pack_spec
from phi3_ui.testing import find_script_folder

logger = logging.getLogger(__name__)

_MAX_LINE = 16 << 20
_MAX_VALUES = 100_000  # of a line: millions would take seconds to parse, in which the app serves nobody
"""Characters: room for any answer, and a bound on what a hostile process makes the app hold, which is 25 times as much."""
_SIGNALS = {one.value: one.name for one in signal.Signals}
_KILL_SECONDS = 10.0  # the kernel takes longer only while a device does not respond

Admit = Callable[[ModelSpec], AbstractContextManager[ModelSpec]]
"""Decides whether a model may be loaded: within the block, its spec with the folder to load; raises UserError if it may not."""


class ModelProcess:
    """One process for one model, from `start` to its end. Thread-safe."""

    def __init__(
        self,
        spec: ModelSpec,
        log: Path,
        admit: Admit,
        on_message: Callable[[Any], None],
        on_end: Callable[[UserError], None],
    ) -> None:
        """It logs into the file `log`.

        `on_message` gets each line that the process sends, parsed; it ends the process if it raises. One thread calls it. `on_end` is called once, at
        last: load_failed if the process could not be started, or what `admit` raised, otherwise model_malformed after such an error, or
        model_crashed.
        """
        self.folder = ""
        """Where the process works; removed at its end."""
        self._spec = spec
        self._log = log
        self._admit = admit
        self._on_message = on_message
        self._on_end = on_end
        self._lock = threading.Lock()
        self._is_unloading = False
        self._is_malformed = False
        self._is_collected = False
        self._exited = threading.Event()
        self._gone = threading.Event()
        self._process: Future[subprocess.Popen[str]] = Future()
        self._outgoing: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def start(self) -> None:
        """Admit the model and start its process, in a thread. The thread reads the process's output to its end.

        The process must not outlive the thread that started it: on Linux it is killed then.
        """
        threading.Thread(target=self._run, name=f"host-{self._spec.name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id; waits until the process has started. Raises what prevented the start."""
        return self._process.result().pid

    @property
    def is_unloading(self) -> bool:
        """Whether `unload` was called."""
        return self._is_unloading

    def send(self, message: dict[str, Any]) -> None:
        """Write a line to the process once it has started. Does not wait for it."""
        self._outgoing.put(message)

    def kill(self) -> None:
        """Kill a process that was started, and those that it has started."""
        process = self._process.result()
        with self._lock:
            if not self._is_collected:
                child_process.kill_group(process)

    def unload(self) -> None:
        """End the process and wait for its end. One whose model is still being admitted is never started."""
        with self._lock:
            self._is_unloading = True
        if not self._process.done() or self._process.exception():
            return
        self.kill()
        if not self._gone.wait(_KILL_SECONDS):
            logger.error("The process %s of %s does not end", self.pid, self._spec.name)

    def crash_error(self, exit_code: int | None = None) -> UserError:
        """The error of answers that the process's end has cut off."""
        if self._is_malformed:
            return UserError("model_malformed", model=self._spec.name)
        if exit_code is not None and exit_code < 0:
            detail = f"ended by {_SIGNALS.get(-exit_code) or f'signal {-exit_code}'}"
        else:
            detail = "its process ended" if exit_code is None else f"its process ended with code {exit_code}"
        return UserError("model_crashed", model=self._spec.name, detail=detail)

    def _run(self) -> None:
        try:
            with self._admit(self._spec) as admitted:
                self._host(admitted)
        except UserError as error:
            logger.warning("%s", error)
            self._fail(error, error)
        except Exception as error:  # whatever is wrong with its files, its users must not wait for ever
            logger.exception("%s could not be admitted", self._spec.name)
            self._fail(error, self._load_error(type(error).__name__))
        self._gone.set()

    def _fail(self, cause: Exception, error: UserError) -> None:
        """The process was not started, because of `cause`."""
        if not self._process.done():
            self._process.set_exception(cause)
        self._on_end(error)

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
                logger.exception("The process of %s could not be started", self._spec.name)
                self._fail(error, self._load_error(str(error)))
                return
            if process is None:
                unloaded = self.crash_error()
                self._fail(unloaded, unloaded)
                return
            self.folder = contained.folder
            self._follow(process, first_line)

    def _spawn(self, contained: containment.Containment) -> "subprocess.Popen[str]":
        containment.warn_unless_isolated()
        with self._log.open("wb") as log:
            return child_process.spawn("phi3_ui.host.worker", [], log, reads_stdin=True, containment=contained)

    def _follow(self, process: "subprocess.Popen[str]", first_line: dict[str, Any]) -> None:
        """Exchange lines with the process until it has ended."""
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        # Separate threads: a busy model may leave the pipe full, and no other thread should wait for it; and a process that
        # the model has started may hold the pipes open after the model's end.
        name = f"host-{self._spec.name}"
        threading.Thread(target=self._write, args=[process.stdin, first_line], name=f"{name}-out", daemon=True).start()
        reading = threading.Thread(target=self._read, args=[process.stdout], name=f"{name}-in", daemon=True)
        reading.start()
        if not child_process.CAN_AWAIT_EXIT:
            reading.join()
        child_process.await_exit(process)
        self._exited.set()
        self.kill()  # what it has started
        reading.join(_KILL_SECONDS)
        with self._lock:
            exit_code = process.wait()
            self._is_collected = True
        self._outgoing.put(None)
        self._on_end(self.crash_error(exit_code))

    def _read(self, pipe: IO[str]) -> None:
        """Pass on what the process sends, and end it once it can send nothing more."""
        try:
            with pipe:
                while (line := pipe.readline(_MAX_LINE)) and not self._is_collected:
                    if has_more_values(line, _MAX_VALUES):
                        raise ValueError("a line of too many values")
                    self._on_message(json.loads(line))  # the part of a longer line is no JSON
        except Exception:  # whatever the process wrote, its users must not wait for ever
            logger.exception("%s sent a line that is not part of the protocol", self._spec.name)
            self._is_malformed = True
            self.kill()
        if child_process.CAN_AWAIT_EXIT and not self._exited.wait(_KILL_SECONDS):
            logger.error("%s has closed its output, so it is ended", self._spec.name)
            self.kill()

    def _write(self, pipe: IO[str], first_line: dict[str, Any]) -> None:
        try:
            with pipe:
                print(json.dumps(first_line), file=pipe, flush=True)
                while (message := self._outgoing.get()) is not None:
                    print(json.dumps(message), file=pipe, flush=True)
        except OSError as error:
            # The process is gone; _follow reads the end of its output and reports it.
            logger.debug("%s reads no more: %s", self._spec.name, error)

    def _load_error(self, detail: str) -> UserError:
        return UserError("load_failed", model=self._spec.name, detail=detail, log=str(self._log))


def _grants(spec: ModelSpec, package: str) -> containment.Grants:
    """What the process of an admitted model may use."""
    folders, variables = (spec.folders, spec.variables) if spec.level == "code" else ((), ())
    if script := find_script_folder(spec.folder):
        folders = (*folders, script)
    is_pipeline = isinstance(get_contract(spec.contract), PipelineContract)
    uses_zero_gpu = is_pipeline and containment.is_zero_gpu(os.environ)
    return containment.Grants(spec.folder, spec.level, folders, (package,), variables, uses_zero_gpu)
