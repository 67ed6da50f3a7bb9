"""Runs a recipe, with one process per step. Its progress can be read, and the job cancelled, at any time.

Each step creates its result atomically, so a job that was killed resumes with the interrupted step.
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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from models.tracking import Store
from phi3_ui.errors import UserError
from phi3_ui.host import child_process
from phi3_ui.provision.recipes import BYTES, STAGES, Recipe, StageName, Step, plan
from phi3_ui.settings import Settings
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.lease import Lease, hold_lease

logger = logging.getLogger(__name__)

_LEAST_LEFT = 0.1  # as a fraction of a stage's expected duration
_MIN_SECONDS = 2.0  # shorter stages, such as those whose result exists, tell nothing about the next ones


@dataclass(frozen=True)
class StageResult:
    """The cost of a finished stage."""

    seconds: float
    bytes: int = 0
    """The bytes downloaded; 0 for the stages that download nothing."""


@dataclass(frozen=True)
class JobState:
    """A snapshot of a job."""

    phase: Literal["checking", "waiting", "running", "done", "failed", "cancelled"] = "checking"
    stages: tuple[StageName, ...] = ()
    """The stages of all steps, in order."""
    step: int = 0
    """The index in `stages` of the current step, or of the one the job ended in."""
    done: int = 0
    """The completed part of `total`, in bytes for the stages in recipes.BYTES, otherwise in steps."""
    total: int = 0
    results: tuple[StageResult, ...] = ()
    """The results of the finished stages."""
    model_ids: tuple[str, ...] = ()
    """The models logged so far."""
    started_at: float = 0.0
    """When the current stage started, by time.monotonic()."""
    is_usable: bool = False
    """Whether there is a usable chat model already; set by a first run only."""
    error: UserError | None = None

    @property
    def stage(self) -> StageName | None:
        """The current stage, or the one the job ended in."""
        return self.stages[self.step] if self.stages else None

    def estimate_seconds_left(self, now: float) -> float | None:
        """Estimate the seconds left from the finished stages; None until they are a sufficient basis."""
        seconds = sum(result.seconds for result in self.results)
        if seconds < _MIN_SECONDS:
            return None
        shares = [STAGES[name] for name in self.stages]
        pace = seconds / sum(shares[: self.step])
        expected = pace * shares[self.step]
        least = _LEAST_LEFT * expected  # a stage without progress may take longer than expected
        current = (
            expected * (1 - self.done / self.total) if self.total else max(expected - now + self.started_at, least)
        )
        return current + pace * sum(shares[self.step + 1 :])

    @property
    def is_finished(self) -> bool:
        """Whether the job has ended, successfully or not."""
        return self.phase in ("done", "failed", "cancelled")

    @property
    def fraction(self) -> float:
        """The share of all work that is done, 0 to 1."""
        if self.phase == "done" or not self.stages:
            return float(self.phase == "done")
        shares = [STAGES[name] for name in self.stages]
        within = self.done / self.total if self.total else 0.0
        return (sum(shares[: self.step]) + shares[self.step] * within) / sum(shares)


class Job:
    """Runs one recipe; the thread that runs it calls `on_change` with each new `state`.

    A home runs one job at a time, across all processes; the others report that they wait.
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
        """Wait until no other job runs, then create and log the models, and return their ids.

        Raises:
            UserError: See `run_steps`; it is also set in `state`.
        """
        try:
            with exclusive(self._settings, lambda: self._set_state(JobState("waiting")), self._cancelled.is_set):
                model_ids = self.run_steps()
        except UserError as error:
            phase: Literal["cancelled", "failed"] = "cancelled" if error.code == "cancelled" else "failed"
            self._set_state(replace(self.state, phase=phase, error=error))
            raise
        self._set_state(replace(self.state, phase="done"))
        return model_ids

    def start(self) -> "Job":
        """Run in a thread, and return self; `state` shows its progress and outcome."""
        threading.Thread(target=self._run_in_thread, name="job", daemon=True).start()
        return self

    def cancel(self) -> None:
        """Cancel the job. Downloaded files are kept, so that the same recipe can resume."""
        self._cancelled.set()
        if process := self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # each step has a process group, with its own children

    def run_steps(self) -> list[str]:
        """Run all steps and return the model ids. The caller must hold `exclusive`, and set the final state.

        Raises:
            UserError: The step's own code, stage_failed, stage_killed, log_failed, cancelled, or why the store refuses.
        """
        settings = self._settings
        if not os.environ.get("MLFLOW_RUN_ID"):  # otherwise the models are logged in that run's experiment
            with translate_store_errors(settings.tracking_uri):  # fail now, not after a download of gigabytes
                Store(settings.tracking_uri).find_experiment()
        store = ["--tracking-uri", settings.tracking_uri]
        if settings.artifacts:
            store += ["--artifacts", settings.artifacts]
        steps = plan(self.recipe, settings.home, store)
        stages = tuple(step.stage for step in steps)
        results: tuple[StageResult, ...] = ()
        for number, step in enumerate(steps):
            started = time.monotonic()
            self._set_state(
                JobState("running", stages, number, results=results, model_ids=self.state.model_ids, started_at=started)
            )
            result = self._run_step(step)
            downloaded = self.state.total if step.stage in BYTES else 0
            results = (*results, StageResult(time.monotonic() - started, downloaded))
            if step.stage.startswith("log_"):
                self._set_state(replace(self.state, model_ids=(*self.state.model_ids, str(result["model_id"]))))
        self._remove_intermediate_folders()
        return list(self.state.model_ids)

    def _run_in_thread(self) -> None:
        try:
            self.run()
        except UserError as error:
            logger.warning("The job for %s ended: %s", self.recipe.name, error)
        except Exception as error:
            logger.exception("The job for %s failed", self.recipe.name)
            self._set_state(replace(self.state, phase="failed", error=UserError("unexpected", detail=str(error))))

    def _remove_intermediate_folders(self) -> None:
        """Remove intermediate folders, now that the models are in the store. Downloaded weights (a file) are kept."""
        if not self._work.is_dir():
            return
        for folder in self._work.iterdir():
            if folder.is_dir() and not folder.name.startswith("relog-"):  # those belong to waiting jobs
                shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._work.rmdir()  # only if it is empty

    def _run_step(self, step: Step) -> dict[str, Any]:
        """Run one step and return its result. Raises the UserErrors of `run_steps`, except those of the store."""
        if self._cancelled.is_set():
            raise UserError("cancelled")
        started = time.monotonic()
        log = self._settings.logs / f"setup-{step.stage}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        arguments = [*step.arguments, "--events"]
        with (
            log.open("wb") as stderr,
            child_process.spawn(step.module, arguments, stderr, online=step.stage in BYTES) as process,
        ):
            self._process = process
            if self._cancelled.is_set():
                self.cancel()
            result, error = self._follow(process)
            process.wait()  # before its stdin is closed, which would make it exit
        self._process = None
        if self._cancelled.is_set():
            raise UserError("cancelled")
        if error or process.returncode != 0 or result is None:
            error = error or self._explain_failure(step, process.returncode, log)
            with log.open("a", encoding="utf-8") as notes:  # even if the step itself has written nothing
                seconds = time.monotonic() - started
                notes.write(
                    f"{step.module} ended after {seconds:.1f} s with {_exit_status(process.returncode)}\n{error}\n"
                )
            raise error
        logger.info("Stage %s took %.1f s", step.stage, time.monotonic() - started)
        return result

    def _explain_failure(self, step: Step, code: int, log: Path) -> UserError:
        """Return the error of a step that ended without reporting one."""
        if _exit_status(code) == "SIGKILL":
            return UserError("stage_killed", log=str(log))
        detail = _last_line(log) or _exit_status(code)
        if step.stage.startswith("log_"):  # its input is complete, so deleting that would not help
            return UserError("log_failed", detail=detail, log=str(log))
        return UserError("stage_failed", detail=detail, log=str(log), folder=str(self._work))

    def _follow(self, process: subprocess.Popen[str]) -> tuple[dict[str, Any] | None, UserError | None]:
        """Read a step's events to the end, and return its result and its error, if it reported any."""
        result: dict[str, Any] | None = None
        error: UserError | None = None
        for line in process.stdout or ():
            match json.loads(line):
                case {"progress": [int() as done, int() as total]}:
                    self._set_state(replace(self.state, done=done, total=total))
                case {"error": {"code": str() as code, "values": dict() as values}}:
                    error = UserError(code, **values)
                case {"result": dict() as values}:
                    result = values
        return result, error

    def _set_state(self, state: JobState) -> None:
        self.state = state
        self._on_change(state)


@contextmanager
def exclusive(
    settings: Settings, on_wait: Callable[[], None], give_up: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Prevent other processes of this home, and other servers of the store, from running a job; call `on_wait` if one does.

    Raises:
        UserError: cancelled, if `give_up` returns True while waiting; or why the store refuses.
    """
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
    with ExitStack() as held:
        held.callback(lock.release)
        if not os.environ.get("MLFLOW_RUN_ID"):  # such a run logs in its own experiment, independently of others
            with translate_store_errors(settings.tracking_uri):
                experiment_id = Store(settings.tracking_uri, settings.artifacts).experiment_id()
                lease = Lease(settings.tracking_uri, experiment_id, "setup", settings.home)
                if not held.enter_context(hold_lease(lease, on_wait, give_up)):
                    raise UserError("cancelled")
        yield


def _exit_status(code: int) -> str:
    """Return the exit code of a process, or the signal that ended it."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200].rstrip(".") if lines else ""
