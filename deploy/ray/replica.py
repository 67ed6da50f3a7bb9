"""A replica: a logged model in its own process, confined as in the app."""

import asyncio
import logging
import math
import threading
from collections.abc import AsyncIterator
from typing import Any

from deploy.ray.settings import RaySettings
from models import disable_telemetry
from phi3_ui.chat.chat_model import ChatModel
from phi3_ui.chat.types import CancelToken
from phi3_ui.errors import UserError
from phi3_ui.host.protocol import pack_event, unpack_request

logger = logging.getLogger(__name__)


_PAUSE = 0.04
"""Minimum seconds between batches of text: each batch costs four processes a few milliseconds, on cores that a model may need."""


class Replica:
    """Serves one model. Ray Serve calls the methods in one event loop."""

    def __init__(self, model_id: str) -> None:
        """Load the model, and return when it can answer. Raises UserError if it cannot be loaded."""
        disable_telemetry()
        from ray import serve

        from phi3_ui.host.pool import Pool
        from phi3_ui.sources.store_source import StoreSource
        from phi3_ui.store.registry.admission import open_admission
        from phi3_ui.store.registry.catalogue import Catalogue

        settings = RaySettings.read()
        admission = open_admission(settings)
        # A separate folder, because several replicas of a model may run on one machine.
        logs = settings.logs / f"replica-{serve.get_replica_context().replica_tag}"
        catalogue = Catalogue(settings.tracking_uri, settings.catalogue)
        self._entry = catalogue.find(model_id)
        self._pool = Pool(logs, 1, math.inf, admission.admit, max_answers=settings.max_answers)
        self._source = StoreSource(settings, catalogue, admission, self._pool)
        self._running: dict[str, CancelToken] = {}
        self._source.open(self._entry).ready.result()

    async def answer(self, answer_id: str, request: dict[str, Any]) -> AsyncIterator[list[list[Any]]]:
        """Stream batches of events of one answer, each event as `["event", packed]`, or `["error", code, values]` at the end.

        Closing the stream, or `cancel`, stops the computation within one token.
        """
        cancel = self._running[answer_id] = CancelToken()
        loop, events = asyncio.get_running_loop(), asyncio.Queue[list[Any] | None]()

        def put(event: list[Any] | None) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        def run() -> None:
            try:
                model: ChatModel = self._source.open(self._entry)  # reloads it if its process has ended
                for event in model.answer(unpack_request(request), cancel):
                    put(["event", pack_event(event)])
            except UserError as error:
                put(["error", error.code, error.values])
            except Exception as error:
                logger.exception("An answer of %s failed", self._entry.name)
                put(["error", "unexpected", {"detail": type(error).__name__}])
            put(None)

        threading.Thread(target=run, name="answer", daemon=True).start()
        try:
            is_over = False
            while not is_over:
                batch = await _take_all(events)
                is_over = batch[-1] is None
                yield [event for event in batch if event is not None]
                if batch[-1] and batch[-1][0] == "event" and batch[-1][1][0] == "text":
                    await asyncio.sleep(_PAUSE)
        finally:
            cancel.set()
            self._running.pop(answer_id, None)

    async def cancel(self, answer_id: str) -> bool:
        """Cancel an answer, which then ends as usual, with its usage. Return False if it is not in flight here."""
        if token := self._running.get(answer_id):
            token.set()
        return token is not None

    async def check_health(self) -> None:
        """Reload the model if its process has ended. If that fails, raises UserError, which makes Serve replace the replica."""
        model = await asyncio.to_thread(self._source.open, self._entry)
        if model.ready.done():
            model.ready.result()


async def _take_all(events: "asyncio.Queue[list[Any] | None]") -> list[list[Any] | None]:
    """Wait for at least one event, and return all that are in the queue."""
    taken = [await events.get()]
    while not events.empty():
        taken.append(events.get_nowait())
    return taken
