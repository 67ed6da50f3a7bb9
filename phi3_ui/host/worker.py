"""The model's process: loads a model through pyfunc and serves requests until its stdin ends."""

import gc
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import IO

from typing_extensions import override

from models.chat_template import declare_confined
from phi3_ui.chat.types import AnswerEvent, CancelToken, ChatRequest, Completed, QueuePosition, Timings
from phi3_ui.contracts.base import Adapter, Contract, ReportsBatching, SupportsCount, SupportsPrepare
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.registry import get_contract
from phi3_ui.host.failures import describe_failure, error_summary
from phi3_ui.host.outbox import Outbox
from phi3_ui.host.protocol import (
    HEARTBEAT_SECONDS,
    Heartbeat,
    HostEvent,
    ModelSpec,
    TokenCounts,
    pack_batching,
    unpack_count,
    unpack_request,
    unpack_spec,
)
from phi3_ui.host.sandbox_policy import is_zero_gpu

logger = logging.getLogger("phi3_ui.host.worker")  # __name__ is __main__ here


def load_adapter(spec: ModelSpec, contract: Contract | None = None) -> Adapter:
    """Load the model into this process and wrap it in its contract's adapter; the default contract is the one that `spec` names."""
    lend_gpu = find_gpu_lender()
    import mlflow

    contract = contract or get_contract(spec.contract)
    # `load_model` has no parameter for the store, so set it for the whole process, which serves this model only.
    if spec.tracking_uri:
        mlflow.set_tracking_uri(spec.tracking_uri)
    # Suppress the warnings: `phi3_ui doctor` reports package mismatches, and MLflow's check lists every file of each package.
    config = contract.model_config(spec.cache_mb)
    model = mlflow.pyfunc.load_model(spec.folder or spec.uri, suppress_warnings=True, model_config=config)
    declaration = ModelDeclaration.from_mlmodel(model.metadata)
    adapter = contract.create_adapter(model, declaration, spec.template, spec.cache_mb)
    return lend_gpu(adapter)


def find_gpu_lender() -> Callable[[Adapter], Adapter]:
    """Return a function that makes an adapter compute on a GPU lent for each answer; the identity where no GPU is lent.

    Call it first: once torch has looked for a GPU itself, none can be lent.
    """
    if not is_zero_gpu(os.environ):  # only the processes of pipelines get these variables
        return lambda adapter: adapter
    from phi3_ui.host.zero_gpu import lend_gpu

    return lend_gpu


class _AnswerToken(CancelToken):
    """Also reports each check: adapters check it after each chunk, which tells a slow model from one that hangs."""

    def __init__(self, on_check: Callable[[], None]) -> None:
        super().__init__()
        self._on_check = on_check

    @override
    def is_set(self) -> bool:
        self._on_check()
        return super().is_set()


class Worker:
    """Answers concurrent requests with one model, each in its own thread."""

    def __init__(self, outbox: Outbox, name: str) -> None:
        """`name` is the model's name in the log."""
        self._outbox = outbox
        self._name = name
        self._model: Future[Adapter] = Future()
        self._running: dict[int, CancelToken] = {}
        self._sent_at = 0.0

    def load(self, spec: ModelSpec, contract: Contract) -> None:
        """Load the model and report the outcome to the app; exit if it failed."""
        try:
            adapter = load_adapter(spec, contract)
        except BaseException as error:
            logger.exception("%s could not be loaded", self._name)
            self._outbox.write_line(["failed", error_summary(error)])
            os._exit(1)
        batching = pack_batching(adapter.batching if isinstance(adapter, ReportsBatching) else None)
        self._outbox.write_line(["ready", adapter.delivery, batching])
        self._model.set_result(adapter)

    def serve(self, commands: IO[str]) -> None:
        """Execute the lines of `commands`. Exit at end of file: the app is gone."""
        for line in commands:
            message = json.loads(line)
            if "cancel" in message:
                if cancel := self._running.get(message["cancel"]):
                    cancel.set()
                continue
            if "count" in message:
                threading.Thread(
                    target=self._count, args=[message["count"], unpack_count(message)], daemon=True
                ).start()
                continue
            number = message["answer"]
            cancel = self._running[number] = _AnswerToken(partial(self._send_heartbeat, number))
            threading.Thread(target=self._answer, args=[number, unpack_request(message), cancel], daemon=True).start()
        os._exit(0)

    def _count(self, number: int, prompts: list[ChatRequest]) -> None:
        """Count the tokens of each prompt, unless the model is loading or answering."""
        counts: list[int] | None = None
        try:
            if not self._running and isinstance(model := self._model.result(), SupportsCount):
                known = [model.count_tokens(prompt) for prompt in prompts]
                counts = [count for count in known if count is not None]
        except Exception as error:  # noqa: BLE001 (a template may fail in any way; the answer reports it, not the count)
            logger.info("%s cannot count the tokens of this prompt: %s", self._name, error_summary(error))
        self._outbox.put(number, TokenCounts(tuple(counts) if counts and len(counts) == len(prompts) else None))

    def _send_heartbeat(self, number: int) -> None:
        """Report that a chunk was completed, unless an event was sent within the last HEARTBEAT_SECONDS."""
        now = time.monotonic()
        if now - self._sent_at >= HEARTBEAT_SECONDS:
            self._sent_at = now
            self._outbox.put(number, Heartbeat())

    def _answer(self, number: int, request: ChatRequest, cancel: CancelToken) -> None:
        try:
            model = self._model.result()
            end: HostEvent = self._forward(number, model, request, cancel)
        except BaseException as error:
            logger.exception("%s failed to answer", self._name)
            end = describe_failure(error)
        # Before the end is sent: the app may count tokens as soon as it has it, and nothing is counted during an answer.
        del self._running[number]
        self._outbox.put(number, end)
        self._outbox.flush()  # the answer first: preparing the model may block the sending of events
        if isinstance(model, SupportsPrepare) and not self._running:
            model.prepare()

    def _forward(self, number: int, model: Adapter, request: ChatRequest, cancel: CancelToken) -> Completed:
        """Queue the events of an answer for the app, except for the last one, which is returned."""
        if cancel.is_set():  # cancelled during the load: the first chunk may take long
            return Completed("", None, Timings(None, 0.0, None), "cancelled")
        end: Completed | None = None
        for event in limit_time(model.answer(request, cancel), cancel, request.time_limit):
            if isinstance(event, Completed):
                end = event
            else:
                self._outbox.put(number, event)
            self._sent_at = time.monotonic()
        if end is None:
            raise RuntimeError("the adapter's events ended without Completed")
        return end


def limit_time(events: Iterator[AnswerEvent], cancel: CancelToken, seconds: float | None) -> Iterator[AnswerEvent]:
    """Yield the events; after `seconds` of work, excluding time in the queue, cancel, with the finish reason "timeout"."""
    if seconds is None:
        yield from events
        return
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        cancel.set()

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        for event in events:
            if isinstance(event, QueuePosition):
                timer.cancel()  # this answer's time has not started
                timer = threading.Timer(seconds, end)
            elif isinstance(event, Completed) and event.finish_reason == "cancelled" and is_over.is_set():
                event = replace(event, finish_reason="timeout")
            elif not timer.is_alive() and not is_over.is_set():
                timer.start()
            yield event
    finally:
        timer.cancel()


def main() -> None:
    """Run the process."""
    declare_confined()
    # Keep the pipes from and to the app for the protocol: libraries that print write to the log, those that read get nothing.
    # A forked process closes `sys.stdin`, and would wait forever if a thread of this process were reading it.
    commands, out = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, "rb") as null:
        os.dup2(null.fileno(), 0)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 (for the life of the process)
    os.dup2(2, 1)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    outbox = Outbox(out)
    try:
        spec, contract = unpack_spec(json.loads(commands.readline()))
    except Exception as error:
        logger.exception("The contract could not be imported")
        outbox.write_line(["failed", error_summary(error)])
        raise
    worker = Worker(outbox, spec.name)
    serving = threading.Thread(target=worker.serve, args=[commands], name="serve")
    serving.start()
    gc.disable()  # imported modules stay: scanning them repeatedly takes half a second
    worker.load(spec, contract)
    gc.freeze()
    gc.enable()
    serving.join()


if __name__ == "__main__":
    main()
