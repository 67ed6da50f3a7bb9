"""First run: a store without a chat model gets those of the preset, made by one job."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from models.tracking import Store, register_missing
from phi3_ui.errors import UserError
from phi3_ui.provision.jobs import Job, JobState, exclusive
from phi3_ui.provision.recipes import CONTRACTS, find_preset, recipe_from_preset
from phi3_ui.settings import Settings
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.registry.catalogue import Catalogue

logger = logging.getLogger(__name__)


class FirstRun:
    """Runs in a thread of its own once started; `on_change` is called there at each change of `state`."""

    def __init__(
        self, settings: Settings, catalogue: Catalogue, on_change: Callable[[JobState], None] = lambda _: None
    ) -> None:
        self.state = JobState()
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
            self._show(JobState())
            self._thread = threading.Thread(target=self._run, name="setup", daemon=True)
            self._thread.start()

    def wait(self) -> JobState:
        """The state once the thread has ended."""
        if self._thread:
            self._thread.join()
        return self.state

    def is_needed(self) -> bool:
        """Is the preset's set-up still to be done? UserError: store_unreachable.

        It is for a store without a chat model, for one that was begun and not finished, and for a preset that was
        named and is not there.
        """
        if self._unfinished.exists() or not self._catalogue.list_models():
            return True
        return self._settings.preset_is_explicit and bool(self._missing())

    def _run(self) -> None:
        settings = self._settings
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
            if self.is_needed():
                with exclusive(settings, lambda: self._show(JobState("waiting"))):
                    if self.is_needed():
                        self._set_up()
            self._show(JobState("done"))
        except UserError as error:
            self._fail(error)
        except PermissionError as error:
            self._fail(UserError("not_writable", folder=str(error.filename or settings.home)))
        except Exception as error:
            logger.exception("the set-up failed")
            self._fail(UserError("unexpected", detail=type(error).__name__))

    def _set_up(self) -> None:
        recipe = recipe_from_preset(self._settings.preset, self._settings.device, self._missing())
        self._unfinished.touch()
        Job(self._settings, recipe, self._show).make()
        # A model whose logging was killed at its last step is whole, but not registered.
        with translate_store_errors(self._settings.tracking_uri):
            register_missing(Store(self._settings.tracking_uri), self._settings.preset)
        self._unfinished.unlink()

    def _missing(self) -> set[str]:
        """The contracts in which the preset is not logged yet."""
        preset = find_preset(self._settings.preset).origin.preset
        return set(CONTRACTS) - {entry.contract for entry in self._catalogue.list_models() if entry.preset == preset}

    def _fail(self, error: UserError) -> None:
        self._show(replace(self.state, phase="failed", error=error))

    def _show(self, state: JobState) -> None:
        self.state = state
        self._on_change(state)
