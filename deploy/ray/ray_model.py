"""A model on Ray Serve, as a ChatModel."""

import logging
import threading
import time
from collections.abc import Iterator
from itertools import chain
from typing import Any, cast

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from deploy.ray.names import DEPLOYMENT, find_session, name_application
from phi3_ui.chat.conversation import new_id
from phi3_ui.chat.types import AnswerEvent, CancelToken, ChatRequest, Completed, TextDelta, Timings
from phi3_ui.errors import UserError
from phi3_ui.host.protocol import pack_request, unpack_event
from phi3_ui.store.registry.cards import ModelEntry

logger = logging.getLogger(__name__)

_CANCEL_SECONDS = 10.0
"""A replica kills a hanging model after 5 seconds; a replica that takes longer is considered lost."""
_ATTEMPTS = 3
"""Attempts for a request whose replica is lost before the first text."""


class RayLoader:
    """Opens the models of the cluster. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: dict[str, DeploymentHandle[Any]] = {}

    def open(self, entry: ModelEntry) -> "RayModel":
        """Return the model, whose application must be deployed."""
        with self._lock:
            handle = self._handles.get(entry.model_id)
            if handle is None:
                handle = self._handles[entry.model_id] = serve.get_deployment_handle(
                    DEPLOYMENT, name_application(entry.model_id)
                )
        return RayModel(entry.name, handle)


class RayModel:
    """The replicas of one model. Thread-safe."""

    def __init__(self, name: str, handle: "DeploymentHandle[Any]") -> None:
        """Create the model; `name` is shown in errors."""
        self._name = name
        self._handle = handle

    def answer(self, request: ChatRequest, cancel: CancelToken) -> Iterator[AnswerEvent]:
        """See ChatModel. The turns of a chat are routed to the same replica, whose KV cache holds the prefix."""
        handle = self._handle.options(session_id=find_session(request))
        for attempt in range(1, _ATTEMPTS + 1):
            has_text = False
            try:
                for event in self._stream(handle, request, cancel):
                    has_text = has_text or isinstance(event, TextDelta)
                    yield event
            except BackPressureError as error:
                raise UserError("queue_full", model=self._name, count=error.args[0]) from error
            except (RayError, RayServeException) as error:
                logger.warning("A replica of %s is lost: %s", self._name, error)
                if has_text or attempt == _ATTEMPTS:
                    raise UserError("replica_lost", model=self._name) from error
            else:
                return

    def _stream(
        self, handle: "DeploymentHandle[Any]", request: ChatRequest, cancel: CancelToken
    ) -> Iterator[AnswerEvent]:
        """Yield the events of one replica. Raises RayError or RayServeException if it is lost, and UserError if the model fails."""
        answer_id, started = new_id(), time.perf_counter()
        streaming = handle.options(stream=True, method_name="answer")
        stream = cast("DeploymentResponseGenerator[Any]", streaming.remote(answer_id, pack_request(0, request)))
        is_dropped = threading.Event()

        def stop() -> None:
            try:
                # The same session, and therefore the same replica, unless replicas were added or removed in the meantime.
                if handle.cancel.remote(answer_id).result(timeout_s=_CANCEL_SECONDS):
                    return
            except (RayError, RayServeException, TimeoutError) as error:
                logger.warning("Could not cancel an answer on a replica of %s: %s", self._name, error)
            is_dropped.set()
            stream.cancel()

        cancel.on_set(lambda: threading.Thread(target=stop, name="stop", daemon=True).start())
        texts, is_finished = list[str](), False
        try:
            for kind, *content in chain.from_iterable(stream):
                if kind == "error":
                    raise UserError(content[0], **content[1])
                event = cast("AnswerEvent", unpack_event(content[0]))  # other events are not sent by the replica
                if isinstance(event, TextDelta):
                    texts.append(event.text)
                is_finished = isinstance(event, Completed)
                yield event
        except (RayError, RayServeException):
            if not is_dropped.is_set():
                raise
            is_finished = True
            yield Completed("".join(texts), None, Timings(None, time.perf_counter() - started, None), "cancelled")
        finally:
            if not is_finished:
                stream.cancel()
