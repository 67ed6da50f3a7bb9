"""A recipe on its way into the store. Each step is a process; its progress can be read, and it can be cancelled, at any time.

A step's result appears whole or not at all, so whenever this is killed, the next try goes on with the step it was in.
"""

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from phi3_ui.errors import UserError
from phi3_ui.host import child_process
from phi3_ui.provision.recipes import BYTES, STAGES, Recipe, StageName, Step, plan
from phi3_ui.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobState:
    """Where a job stands. `done` and `total` are bytes in the stages of recipes.BYTES, steps in the others."""

    phase: Literal["checking", "waiting", "running", "done", "failed", "cancelled"] = "checking"
    stages: tuple[StageName, ...] = ()
    step: int = 0
    done: int = 0
    total: int = 0
    error: UserError | None = None

    @property
    def stage(self) -> StageName | None:
        """The stage under way, or that it ended in."""
        return self.stages[self.step] if self.stages else None

    @property
    def is_finished(self) -> bool:
        return self.phase in ("done", "failed", "cancelled")

    @property
    def fraction(self) -> float:
        """How much of all stages is done, 0 to 1."""
        if self.phase == "done" or not self.stages:
            return float(self.phase == "done")
        shares = [STAGES[name] for name in self.stages]
        within = self.done / self.total if self.total else 0.0
        return (sum(shares[: self.step]) + shares[self.step] * within) / sum(shares)


class Job:
    """One recipe; `on_change` is called, in the thread that runs it, at each change of `state`.

    One job runs at a time in a home, whichever process started it; the others wait and say so.
    """

    def __init__(
        self, settings: Settings, recipe: Recipe, on_change: Callable[[JobState], None] = lambda _: None
    ) -> None:
        self.recipe = recipe
        self.state = JobState()
        self._settings = settings
        self._on_change = on_change
        self._cancelled = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._work = settings.home / "models" / (recipe.preset or recipe.name)

    def run(self) -> list[str]:
        """Wait until no other job runs, then make and log the models; their ids. UserError: the state has it too."""
        try:
            with exclusive(self._settings, lambda: self._show(JobState("waiting")), self._cancelled.is_set):
                made = self.make()
        except UserError as error:
            self._show(replace(self.state, phase="cancelled" if error.code == "cancelled" else "failed", error=error))
            raise
        self._show(replace(self.state, phase="done"))
        return made

    def start(self) -> "Job":
        """Run in a thread of its own; `state` tells how it ends."""
        threading.Thread(target=self._run_quietly, name="job", daemon=True).start()
        return self

    def cancel(self) -> None:
        """End it; what was downloaded is kept, and the same recipe goes on from there."""
        self._cancelled.set()
        if process := self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # each has a group of its own, with what it started

    def _run_quietly(self) -> None:
        with contextlib.suppress(UserError):  # the state has it
            try:
                self.run()
            except UserError:
                raise
            except Exception as error:
                logger.exception("a job failed")
                self._show(replace(self.state, phase="failed", error=UserError("unexpected", detail=str(error))))

    def make(self) -> list[str]:
        """The work of `run`, for who already holds `only_one`; the end is not shown."""
        settings = self._settings
        store = ["--tracking-uri", settings.tracking_uri]
        if settings.artifacts:
            store += ["--artifacts", settings.artifacts]
        steps = plan(self.recipe, settings.home, store)
        made = []
        for number, step in enumerate(steps):
            self._show(JobState("running", tuple(one.stage for one in steps), number))
            result = self._run_step(step)
            if step.stage.startswith("log_"):
                made.append(str(result["model_id"]))
        self._clear(steps)
        return made

    def _clear(self, steps: list[Step]) -> None:
        """The store holds the models now: remove the folders that were made on the way, but not the embedded weights."""
        for step in steps:
            folder = Path(step.arguments[step.arguments.index("--folder") + 1])
            if self._work in folder.parents:
                shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._work.rmdir()  # if nothing is left in it

    def _run_step(self, step: Step) -> dict[str, Any]:
        """Run one step to its end; what it made. UserError with the step's own code, or stage_failed."""
        if self._cancelled.is_set():
            raise UserError("cancelled")
        started = time.monotonic()
        log = self._settings.logs / f"setup-{step.stage}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        made: dict[str, Any] | None = None
        arguments = [*step.arguments, "--events"]
        with (
            log.open("wb") as stderr,
            child_process.spawn(step.module, arguments, stderr, online=step.stage in BYTES) as process,
        ):
            self._process = process
            if self._cancelled.is_set():
                self.cancel()
            assert process.stdout is not None
            for line in process.stdout:
                match json.loads(line):
                    case {"progress": [int() as done, int() as total]}:
                        self._show(replace(self.state, done=done, total=total))
                    case {"error": {"code": str() as code, "values": dict() as values}}:
                        raise UserError(code, **values)
                    case {"result": dict() as result}:
                        made = result
            process.wait()  # before its stdin is closed, which would tell it to give up
        self._process = None
        if self._cancelled.is_set():
            raise UserError("cancelled")
        if process.returncode != 0 or made is None:
            detail = _why(process.returncode, log)
            raise UserError("stage_failed", stage=step.stage, detail=detail, log=str(log), folder=str(self._work))
        logger.info("stage %s took %.1f s", step.stage, time.monotonic() - started)
        return made

    def _show(self, state: JobState) -> None:
        self.state = state
        self._on_change(state)


@contextmanager
def exclusive(
    settings: Settings, on_wait: Callable[[], None], give_up: Callable[[], bool] | None = None
) -> Iterator[None]:
    """Holds off other jobs in the same home, and waits for one that runs. UserError("cancelled") if told to give up."""
    settings.home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.home / "setup.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        on_wait()
        try:
            lock.acquire(cancel_check=give_up)
        except Timeout:
            raise UserError("cancelled") from None
    try:
        yield
    finally:
        lock.release()


def _why(code: int, log: Path) -> str:
    """What ended a step: the signal that killed it, which it could not write down itself, or else its last words."""
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}, as for lack of memory"
    return _last_line(log) or f"its process ended with code {code}"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200].rstrip(".") if lines else ""
