"""The life of a model's process: admit, confine and start it, exchange lines with it, and end it."""

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
from phi3_ui.host import child_process, sandbox_policy
from phi3_ui.host.protocol import ModelSpec, pack_spec
from phi3_ui.testing import find_script_folder

logger = logging.getLogger(__name__)

_MAX_LINE = 16 << 20
"""Characters: enough for any answer, and a bound on the memory that a hostile process makes the app use (25 times as much)."""
_MAX_VALUES = 100_000
"""JSON values per line: parsing millions would take seconds, during which the app serves nobody."""
_SIGNALS = {one.value: one.name for one in signal.Signals}
_KILL_SECONDS = 10.0  # the kernel takes longer only while a device does not respond

Admit = Callable[[ModelSpec], AbstractContextManager[ModelSpec]]
"""Decides whether a model may be loaded: a context manager that yields the spec with the folder to load, or raises UserError."""


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
        """Prepare a process; `start` starts it.

        Args:
            spec: The model.
            log: The file for the process's stderr.
            admit: Decides whether the model may be loaded.
            on_message: Gets each line that the process sends, parsed, always from the same thread. If it raises, the process
                is ended.
            on_end: Called once, last: with load_failed if the process could not be started, with the error that `admit`
                raised, with model_malformed after an error of `on_message`, and with model_crashed otherwise.
        """
        self.folder = ""
        """The process's private folder, removed when it ends."""
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
        """Admit the model and start its process, in a thread that lives until the process has ended.

        On Linux, the process is killed when the thread that started it ends.
        """
        threading.Thread(target=self._run, name=f"host-{self._spec.name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id. Blocks until the process has started; raises the error that prevented the start."""
        return self._process.result().pid

    @property
    def is_unloading(self) -> bool:
        """Whether `unload` was called."""
        return self._is_unloading

    def send(self, message: dict[str, Any]) -> None:
        """Queue a line for the process, to be written once it has started."""
        self._outgoing.put(message)

    def kill(self) -> None:
        """Kill the started process and its descendants."""
        process = self._process.result()
        with self._lock:
            if not self._is_collected:
                child_process.kill_group(process)

    def unload(self) -> None:
        """End the process and wait for its exit. If its model is still being admitted, it is never started."""
        with self._lock:
            self._is_unloading = True
        if not self._process.done() or self._process.exception():
            return
        self.kill()
        if not self._gone.wait(_KILL_SECONDS):
            logger.error("Process %s of %s does not exit", self.pid, self._spec.name)

    def crash_error(self, exit_code: int | None = None) -> UserError:
        """Return the error for answers that were cut off because the process ended."""
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
                self._run_process(admitted)
        except UserError as error:
            logger.warning("%s", error)
            self._fail(error, error)
        except Exception as error:  # whatever is wrong with its files, its users must not wait forever
            logger.exception("%s could not be admitted", self._spec.name)
            self._fail(error, self._load_error(type(error).__name__))
        self._gone.set()

    def _fail(self, cause: Exception, error: UserError) -> None:
        """Report that the process was not started because of `cause`."""
        if not self._process.done():
            self._process.set_exception(cause)
        self._on_end(error)

    def _run_process(self, admitted: ModelSpec) -> None:
        """Start the process of an admitted model, and serve it until it ends."""
        with contextlib.ExitStack() as own_folder:
            try:
                first_line = pack_spec(admitted)
                contract_package = str(first_line["contract"]).partition(".")[0]
                policy = own_folder.enter_context(sandbox_policy.prepare(_grants(admitted, contract_package)))
                with self._lock:
                    process = None if self._is_unloading else self._spawn(policy)
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
            self.folder = policy.folder
            self._communicate(process, first_line)

    def _spawn(self, policy: sandbox_policy.SandboxPolicy) -> "subprocess.Popen[str]":
        sandbox_policy.warn_unless_isolated()
        with self._log.open("wb") as log:
            return child_process.spawn("phi3_ui.host.worker", [], log, reads_stdin=True, policy=policy)

    def _communicate(self, process: "subprocess.Popen[str]", first_line: dict[str, Any]) -> None:
        """Exchange lines with the process until it has ended."""
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        # Separate threads: a busy model may leave the pipe full, which must not block other threads; and a process that the
        # model has started may keep the pipes open after the model has ended.
        name = f"host-{self._spec.name}"
        threading.Thread(target=self._write, args=[process.stdin, first_line], name=f"{name}-out", daemon=True).start()
        reading = threading.Thread(target=self._read, args=[process.stdout], name=f"{name}-in", daemon=True)
        reading.start()
        if not child_process.CAN_AWAIT_EXIT:
            reading.join()
        child_process.await_exit(process)
        self._exited.set()
        self.kill()  # its descendants
        reading.join(_KILL_SECONDS)
        with self._lock:
            exit_code = process.wait()
            self._is_collected = True
        self._outgoing.put(None)
        self._on_end(self.crash_error(exit_code))

    def _read(self, pipe: IO[str]) -> None:
        """Pass on the lines that the process sends, and end it once its output is closed."""
        try:
            with pipe:
                while (line := pipe.readline(_MAX_LINE)) and not self._is_collected:
                    if has_more_values(line, _MAX_VALUES):
                        raise ValueError("a line with too many values")
                    self._on_message(json.loads(line))  # a truncated line is not valid JSON
        except Exception:  # whatever the process wrote, its users must not wait forever
            logger.exception("%s sent a line that is not part of the protocol", self._spec.name)
            self._is_malformed = True
            self.kill()
        if child_process.CAN_AWAIT_EXIT and not self._exited.wait(_KILL_SECONDS):
            logger.error("%s closed its output without exiting and is killed", self._spec.name)
            self.kill()

    def _write(self, pipe: IO[str], first_line: dict[str, Any]) -> None:
        try:
            with pipe:
                print(json.dumps(first_line), file=pipe, flush=True)
                while (message := self._outgoing.get()) is not None:
                    print(json.dumps(message), file=pipe, flush=True)
        except OSError as error:
            # The process is gone; _communicate reads the end of its output and reports it.
            logger.debug("%s no longer reads its input: %s", self._spec.name, error)

    def _load_error(self, detail: str) -> UserError:
        return UserError("load_failed", model=self._spec.name, detail=detail, log=str(self._log))


def _grants(spec: ModelSpec, package: str) -> sandbox_policy.Grants:
    """Return what the process of an admitted model may access."""
    folders, variables = (spec.folders, spec.variables) if spec.level == "code" else ((), ())
    if script := find_script_folder(spec.folder):
        folders = (*folders, script)
    is_pipeline = isinstance(get_contract(spec.contract), PipelineContract)
    uses_zero_gpu = is_pipeline and sandbox_policy.is_zero_gpu(os.environ)
    return sandbox_policy.Grants(spec.folder, spec.level, folders, (package,), variables, uses_zero_gpu)
