"""First run: get the weights, build, log both models. Each stage is a process; its progress can be read at any time.

A stage's result appears whole or not at all, so whenever this is killed, the next start goes on with the stage it was in.
"""

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from models.presets import Preset, load_preset, preset_keys
from phi3_ui import lifeline
from phi3_ui.errors import UserError
from phi3_ui.settings import Settings
from phi3_ui.store.catalogue import Catalogue

logger = logging.getLogger(__name__)

StageName = Literal["fetch", "convert", "build", "log_pipeline", "log_onnx"]

# The stages in order, with the share of the time that each takes.
STAGES: dict[StageName, int] = {"fetch": 5, "convert": 40, "build": 20, "log_pipeline": 25, "log_onnx": 10}


@dataclass(frozen=True)
class SetupState:
    """Where the set-up stands. `done` and `total` are bytes for the stage `fetch`, steps for the others."""

    phase: Literal["checking", "waiting", "running", "done", "failed"] = "checking"
    stage: StageName | None = None
    done: int = 0
    total: int = 0
    error: UserError | None = None

    @property
    def fraction(self) -> float:
        """How much of all stages is done, 0 to 1."""
        if self.stage is None:
            return 1.0 if self.phase == "done" else 0.0
        names = list(STAGES)
        before = sum(STAGES[name] for name in names[: names.index(self.stage)])
        within = self.done / self.total if self.total else 0.0
        return (before + STAGES[self.stage] * within) / sum(STAGES.values())


class Setup:
    """Runs in a thread of its own once started; `on_change` is called there at each change of `state`."""

    def __init__(
        self, settings: Settings, catalogue: Catalogue, on_change: Callable[[SetupState], None] = lambda _: None
    ) -> None:
        self.state = SetupState()
        self._settings = settings
        self._catalogue = catalogue
        self._on_change = on_change
        self._unfinished = settings.home / "setup.unfinished"
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Set up what is missing, if anything; nothing happens while it already runs."""
        with self._lock:
            if self._thread and self._thread.is_alive():
                return
            self._show(SetupState())
            self._thread = threading.Thread(target=self._run, name="setup", daemon=True)
            self._thread.start()

    def wait(self) -> SetupState:
        """The state once the thread has ended."""
        if self._thread:
            self._thread.join()
        return self.state

    def needed(self) -> bool:
        """Has the store no chat model, or was a set-up begun and not finished? UserError: store_unreachable."""
        return self._unfinished.exists() or not self._catalogue.models()

    def _run(self) -> None:
        try:
            self._settings.home.mkdir(parents=True, exist_ok=True)
            if self.needed():
                with self._only_one():
                    if self.needed():
                        self._set_up()
            self._show(SetupState("done"))
        except UserError as error:
            self._fail(error)
        except PermissionError as error:
            self._fail(UserError("not_writable", folder=str(error.filename or self._settings.home)))
        except Exception as error:
            logger.exception("the set-up failed")
            self._fail(UserError("unexpected", detail=type(error).__name__))

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        """Holds off other processes' set-ups in the same home, and waits for one that runs."""
        lock = FileLock(self._settings.home / "setup.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            self._show(SetupState("waiting"))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _set_up(self) -> None:
        preset = self._preset()
        work = self._settings.home / "models" / preset.origin.preset
        named = ["--preset", preset.origin.preset]
        self._unfinished.touch()
        gguf = self._stage("fetch", "models.weights", ["--folder", str(work), *named])
        logged = {entry.contract for entry in self._catalogue.models() if entry.preset == preset.origin.preset}
        checkpoint, onnx = work / "checkpoint", work / preset.origin.onnx_name
        if {"chat", "prompt"} - logged:
            self._stage("convert", "models.checkpoint", ["--gguf", gguf, "--folder", str(checkpoint), *named])
        if "prompt" not in logged:
            arguments = ["--checkpoint", str(checkpoint), "--precision", preset.onnx_precision, "--folder", str(onnx)]
            self._stage("build", "models.onnx_build", arguments)
        store = [*named, "--tracking-uri", self._settings.tracking_uri]
        if self._settings.artifacts:
            store += ["--artifacts", self._settings.artifacts]
        if "chat" not in logged:
            self._stage("log_pipeline", "models.log_pipeline", ["--folder", str(checkpoint), *store])
        if "prompt" not in logged:
            self._stage(
                "log_onnx", "models.log_onnx", ["--folder", str(onnx), "--precision", preset.onnx_precision, *store]
            )
        # The store holds both now.
        shutil.rmtree(checkpoint, ignore_errors=True)
        shutil.rmtree(onnx, ignore_errors=True)
        self._unfinished.unlink()

    def _preset(self) -> Preset:
        try:
            return load_preset(self._settings.preset)
        except KeyError:
            known = ", ".join(preset_keys())
            raise UserError("unknown_preset", preset=self._settings.preset, known=known) from None

    def _stage(self, stage: StageName, module: str, arguments: Sequence[str]) -> str:
        """Run one stage to its end; the path or id it made. UserError with the stage's own code, or stage_failed."""
        self._show(SetupState("running", stage))
        started = time.monotonic()
        log = self._settings.logs / f"setup-{stage}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        made: str | None = None
        with log.open("wb") as stderr, lifeline.spawn(module, [*arguments, "--events"], stderr) as process:
            assert process.stdout is not None
            for line in process.stdout:
                match json.loads(line):
                    case {"progress": [int() as done, int() as total]}:
                        self._show(replace(self.state, done=done, total=total))
                    case {"error": {"code": str() as code, "values": dict() as values}}:
                        raise UserError(code, **values)
                    case {"result": dict() as result}:
                        made = str(next(iter(result.values())))
            process.wait()  # before its stdin is closed, which would tell it to give up
        if process.returncode != 0 or made is None:
            detail = f"its process ended with code {process.returncode}"
            work = self._settings.home / "models"
            raise UserError(
                "stage_failed", stage=stage, detail=_last_line(log) or detail, log=str(log), folder=str(work)
            )
        logger.info("set-up stage %s took %.1f s", stage, time.monotonic() - started)
        return made

    def _fail(self, error: UserError) -> None:
        self._show(replace(self.state, phase="failed", error=error))

    def _show(self, state: SetupState) -> None:
        self.state = state
        self._on_change(state)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200].rstrip(".") if lines else ""
