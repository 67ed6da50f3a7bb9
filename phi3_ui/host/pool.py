"""The only owner of loaded models: each is loaded once, and unloaded when idle or to make room for another."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from phi3_ui.errors import UserError
from phi3_ui.host.hosted_model import MAX_ANSWERS, HostedModel
from phi3_ui.host.model_process import Admit
from phi3_ui.host.protocol import ModelSpec

_EVICTION_INTERVAL = 5.0  # seconds


class Pool:
    """Keeps at most `max_loaded` models loaded, and unloads those that are idle for `idle_seconds`. Thread-safe.

    Each model has at most `max_answers` answers running or queued.
    """

    def __init__(  # noqa: PLR0913  # keyword-only options with defaults
        self,
        logs: Path,
        max_loaded: int,
        idle_seconds: float,
        admit: Admit,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_answers: int = MAX_ANSWERS,
    ) -> None:
        """`admit` decides whether a model may be loaded."""
        self._admit = admit
        self._logs = logs
        self._max_loaded = max_loaded
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._max_answers = max_answers
        self._lock = threading.Lock()
        self._models: dict[str, HostedModel] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._evict_while_open, name="pool", daemon=True).start()

    def get_model(self, spec: ModelSpec) -> HostedModel:
        """Return the model of `spec`, loading it if necessary.

        Raises:
            UserError: "too_many_models", if the limit is reached and no loaded model is idle.
        """
        with self._lock:
            self._drop_ended()
            if loaded := self._models.get(spec.model_id):
                loaded.last_used = self._clock()
                return loaded
            if len(self._models) >= self._max_loaded:
                self._evict_one()
            model = self._models[spec.model_id] = HostedModel(
                spec, self._logs, self._admit, max_answers=self._max_answers
            )
            return model

    def peek(self, model_id: str) -> HostedModel | None:
        """Return the model if it is loaded, loading, or has crashed and has not been requested since."""
        return self._models.get(model_id)

    def list_loaded(self) -> list[str]:
        """Return the ids of the models that are loaded and ready to answer."""
        models = list(self._models.values())
        return [one.spec.model_id for one in models if one.is_alive and one.ready.done() and not one.ready.exception()]

    def measure_memory(self) -> dict[str, int]:
        """Return the bytes of main memory that each ready model uses, by id."""
        loaded = ((name, self.peek(name)) for name in self.list_loaded())
        found = {name: model.measure_memory() for name, model in loaded if model}
        return {name: size for name, size in found.items() if size is not None}

    def unload(self, model_id: str) -> None:
        """End a model's process. Raise UserError("model_busy") while it is answering, unless it hangs."""
        model = self._models.get(model_id)
        if model is None:
            return
        if not model.unload_unless_busy():
            raise UserError("model_busy", model=model.spec.name)
        with self._lock:
            if self._models.get(model_id) is model:
                del self._models[model_id]

    def close(self) -> None:
        """End every process and wait for its exit."""
        self._closed.set()
        with self._lock:
            models, self._models = list(self._models.values()), {}
        for model in models:
            model.unload()

    def evict_idle(self) -> None:
        """Unload the models that have been idle for longer than `idle_seconds`."""
        with self._lock:
            limit = self._clock() - self._idle_seconds
            idle = [model for model in self._models.values() if not model.is_busy and model.last_used < limit]
            for model in idle:
                del self._models[model.spec.model_id]
        for model in idle:
            model.unload()

    def _evict_while_open(self) -> None:
        while not self._closed.wait(_EVICTION_INTERVAL):
            self.evict_idle()

    def _drop_ended(self) -> None:
        self._models = {key: model for key, model in self._models.items() if model.is_alive}

    def _evict_one(self) -> None:
        idle = [model for model in self._models.values() if not model.is_busy]
        if not idle:
            raise UserError("too_many_models", count=len(self._models))
        oldest = min(idle, key=lambda model: model.last_used)
        del self._models[oldest.spec.model_id]
        oldest.unload()
