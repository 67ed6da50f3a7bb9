"""First run: logs the preset's models to a store without a chat model, ONNX first, in one job."""

import logging
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

from models.presets import load_preset, preset_keys
from models.store_state import redact_passwords
from models.tracking import Store, register_missing
from phi3_ui.errors import UserError
from phi3_ui.provision.jobs import Job, JobState, exclusive
from phi3_ui.provision.recipes import CONTRACTS, find_preset, recipe_from_preset
from phi3_ui.provision.time_left import TimeLeft
from phi3_ui.settings import Settings
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.registry.catalogue import Catalogue

logger = logging.getLogger(__name__)

_MAX_LOG = 10_000  # characters


class FirstRun:
    """Runs in a thread once started, which calls `on_change` with each new `state`.

    `state.is_usable` becomes true with the first usable chat model, while the others are still being logged.
    """

    def __init__(
        self, settings: Settings, catalogue: Catalogue, on_change: Callable[[JobState], None] = lambda _: None
    ) -> None:
        self.state = JobState()
        self._settings = settings
        self._catalogue = catalogue
        self._on_change = on_change
        self._unfinished = settings.home / "setup.unfinished"
        self._has_models = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._time_left = TimeLeft()

    @property
    def title(self) -> str:
        """The title of the preset's weights; its key if there is no such preset."""
        key = self._settings.preset
        return load_preset(key).origin.title if key in preset_keys() else key

    def estimate_seconds_left(self) -> float | None:
        """Return the estimated seconds left; None until there is a basis for an estimate."""
        now = time.monotonic()
        with self._lock:
            return self._time_left.update(self.state.estimate_seconds_left(now), now)

    def read_log(self) -> str:
        """Return the end of the failed step's log, and the causes of the error; empty if nothing failed."""
        if (error := self.state.error) is None:
            return ""
        log = self._settings.logs / f"setup-{self.state.stage}.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        return redact_passwords(f"{text}\n{_describe_causes(error)}".strip())[-_MAX_LOG:]

    def start(self) -> None:
        """Log the missing models, if any. Does nothing if it is already running."""
        with self._lock:
            if self._thread and self._thread.is_alive():
                return
            self._time_left = TimeLeft()
            self._set_state(JobState())
            self._thread = threading.Thread(target=self._run, name="setup", daemon=True)
            self._thread.start()

    def wait(self) -> JobState:
        """Wait until the thread has ended, and return the last state."""
        if self._thread:
            self._thread.join()
        return self.state

    def is_needed(self) -> bool:
        """Return whether the preset's models are to be logged.

        They are if the store has no chat model, the last setup did not finish, or the preset was chosen explicitly and is not in
        the store.

        Raises:
            UserError: store_unreachable, experiment_deleted, models_deleted.
        """
        self._has_models = bool(self._catalogue.list_models())
        is_needed = (
            self._unfinished.exists()
            or not self._has_models
            or (self._settings.preset_is_explicit and bool(self._missing_contracts()))
        )
        if is_needed:  # a deleted experiment should be restored instead, with the models in it
            with translate_store_errors(self._settings.tracking_uri):
                Store(self._settings.tracking_uri).find_experiment()
            is_implicit = not (self._has_models or self._unfinished.exists() or self._settings.preset_is_explicit)
            if is_implicit and (deletion := self._catalogue.find_deletion()):
                raise deletion
        return is_needed

    def _run(self) -> None:
        settings = self._settings
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
            if self.is_needed():
                with exclusive(settings, lambda: self._set_state(JobState("waiting"))):
                    if self.is_needed():
                        self._set_up()
            self._set_state(JobState("done"))
        except UserError as error:
            self._fail(error)
        except PermissionError as error:
            self._fail(UserError("not_writable", folder=str(error.filename or settings.home)), error)
        except Exception as error:
            logger.exception("The setup of preset %s failed", settings.preset)
            self._fail(UserError("unexpected", detail=type(error).__name__), error)

    def _set_up(self) -> None:
        recipe = recipe_from_preset(self._settings.preset, self._settings.device, self._missing_contracts())
        self._unfinished.touch()
        Job(self._settings, recipe, self._set_state).run_steps()
        # A model whose logging was killed in its last step is complete, but not registered.
        with translate_store_errors(self._settings.tracking_uri):
            register_missing(Store(self._settings.tracking_uri), self._settings.preset)
        self._unfinished.unlink()

    def _missing_contracts(self) -> set[str]:
        """Return the contracts for which the preset is not logged yet."""
        preset = find_preset(self._settings.preset).origin.preset
        return set(CONTRACTS) - {entry.contract for entry in self._catalogue.list_models() if entry.preset == preset}

    def _fail(self, error: UserError, cause: Exception | None = None) -> None:
        if cause:
            error.__cause__ = cause
        self._set_state(replace(self.state, phase="failed", error=error))

    def _set_state(self, state: JobState) -> None:
        self._has_models |= state.phase == "done" or bool(state.model_ids)
        self.state = replace(state, is_usable=self._has_models)
        self._on_change(self.state)


def _describe_causes(error: BaseException) -> str:
    """Return the causes of an error, the most recent first, one per line."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is None:
        return ""
    return "".join(traceback.format_exception_only(cause)) + _describe_causes(cause)
