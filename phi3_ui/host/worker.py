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
from phi3_ui.host.containment import is_zero_gpu
from phi3_ui.host.failures import describe_failure, error_summary
from phi3_ui.host.outbox import Outbox
from phi3_ui.host.protocol import (
    SIGN_OF_LIFE_SECONDS,
    Alive,
    HostEvent,
    ModelSpec,
    TokenCounts,
    pack_batching,
    unpack_count,
    unpack_request,
    unpack_spec,
)

logger = logging.getLogger("phi3_ui.host.worker")  # __name__ is __main__ here


def load_adapter(spec: ModelSpec, contract: Contract | None = None) -> Adapter:
    """Load the model into this process and wrap it as its contract says; by default the one that `spec` names."""
    lend_gpu = find_gpu_lender()
    import mlflow

    contract = contract or get_contract(spec.contract)
    # `load_model` takes no store, only the process's. This is the process of one model, started for it alone.
    if spec.tracking_uri:
        mlflow.set_tracking_uri(spec.tracking_uri)
    # Of the warnings, `phi3_ui doctor` says the same about packages; MLflow's check lists every file of each of them.
    config = contract.model_config(spec.cache_mb)
    model = mlflow.pyfunc.load_model(spec.folder or spec.uri, suppress_warnings=True, model_config=config)
    declaration = ModelDeclaration.from_mlmodel(model.metadata)
    adapter = contract.create_adapter(model, declaration, spec.template, spec.cache_mb)
    return lend_gpu(adapter)


def find_gpu_lender() -> Callable[[Adapter], Adapter]:
    """Return what makes an adapter compute on a GPU that is lent for each answer; where none are, it changes nothing.

    Call it first: later, torch may have looked for a GPU itself, which rules that out.
    """
    if not is_zero_gpu(os.environ):  # of all models' processes, those of pipelines alone are told
        return lambda adapter: adapter
    from phi3_ui.host.zero_gpu import lend_gpu

    return lend_gpu


class _AnswerToken(CancelToken):
    """Also says when it is looked at: adapters do so after each chunk, so that tells a slow model from one that hangs."""

    def __init__(self, on_look: Callable[[], None]) -> None:
        super().__init__()
        self._on_look = on_look

    @override
    def is_set(self) -> bool:
        self._on_look()
        return super().is_set()


class Worker:
    """Answers concurrent requests with one model, each in a thread of its own."""

    def __init__(self, outbox: Outbox, name: str) -> None:
        """`name` is the model's, for the log."""
        self._outbox = outbox
        self._name = name
        self._model: Future[Adapter] = Future()
        self._running: dict[int, CancelToken] = {}
        self._sent_at = 0.0

    def load(self, spec: ModelSpec, contract: Contract) -> None:
        """Load the model and report the outcome to the app; the process ends if it failed."""
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
        """Execute the lines of `commands`; at its end the app is gone, and this process exits."""
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
            cancel = self._running[number] = _AnswerToken(partial(self._show_life, number))
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
            logger.info("%s cannot count this prompt: %s", self._name, error_summary(error))
        self._outbox.put(number, TokenCounts(tuple(counts) if counts and len(counts) == len(prompts) else None))

    def _show_life(self, number: int) -> None:
        """Say that a chunk was completed, unless something else was sent a short time ago."""
        now = time.monotonic()
        if now - self._sent_at >= SIGN_OF_LIFE_SECONDS:
            self._sent_at = now
            self._outbox.put(number, Alive())

    def _answer(self, number: int, request: ChatRequest, cancel: CancelToken) -> None:
        try:
            model = self._model.result()
            end: HostEvent = self._forward(number, model, request, cancel)
        except BaseException as error:
            logger.exception("%s failed to answer", self._name)
            end = describe_failure(error)
        # First, because the app may count tokens as soon as it has the end, and nothing is counted during an answer.
        del self._running[number]
        self._outbox.put(number, end)
        self._outbox.flush()  # the answer first: nothing is sent while the model prepares
        if isinstance(model, SupportsPrepare) and not self._running:
            model.prepare()

    def _forward(self, number: int, model: Adapter, request: ChatRequest, cancel: CancelToken) -> Completed:
        """Send the events of an answer on, except for its last one, which is returned."""
        if cancel.is_set():  # while the model was loaded: its first chunk may take long
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
    """Pass the events on; after `seconds` of work, queueing excluded, cancel, with "timeout" as the finish reason."""
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
                timer.cancel()  # this answer's time has not begun
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
    # Standard input and output are the ways from and to the app. Libraries that print go to the log, those that read get nothing;
    # a forked process closes `sys.stdin`, and would wait for ever for a thread of this one that reads it.
    commands, out = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
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
    gc.disable()  # imported modules stay: scanning them again and again takes half a second
    worker.load(spec, contract)
    gc.freeze()
    gc.enable()
    serving.join()


if __name__ == "__main__":
    main()
