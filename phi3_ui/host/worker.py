"""The model's process: loads through pyfunc, picks the adapter by contract, serves requests until its stdin ends."""

import json
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace

from phi3_ui.chat.context import PromptTooLongError
from phi3_ui.chat.types import Cancel, ChatRequest, Completed, Event, Queued
from phi3_ui.contracts.base import Adapter, SupportsPrepare
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.onnx_prompt import OnnxPromptContract
from phi3_ui.contracts.parsing import NoTextError
from phi3_ui.contracts.registry import get_contract
from phi3_ui.host.outbox import Outbox
from phi3_ui.host.protocol import AnswerFailed, ModelSpec, unpack_request
from phi3_ui.prompts.templates import NoTemplateError
from phi3_ui.prompts.tokenization import TemplateError


def load_adapter(spec: ModelSpec) -> Adapter:
    """The model behind `spec` as a ChatModel, by its contract."""
    import mlflow

    mlflow.set_tracking_uri(spec.tracking_uri)
    # The wrapper keeps its own cache; that of a pipeline is its adapter's.
    config = {"cache_mb": spec.cache_mb} if spec.cache_mb and spec.contract == OnnxPromptContract.name else None
    model = mlflow.pyfunc.load_model(spec.uri, model_config=config)
    return get_contract(spec.contract).create_adapter(
        model, ModelDeclaration.from_mlmodel(model.metadata), spec.template, spec.cache_mb
    )


class Worker:
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._model: Future[Adapter] = Future()
        self._running: dict[int, Cancel] = {}

    def load(self, spec: ModelSpec) -> None:
        """Load, and tell the app how it went; the process ends if it failed."""
        try:
            adapter = load_adapter(spec)
        except BaseException as error:
            traceback.print_exc()
            self._outbox.write(["failed", _words(error)])
            os._exit(1)
        self._outbox.write(["ready", adapter.delivery])
        self._model.set_result(adapter)

    def serve(self) -> None:
        """Obey the lines of stdin; at its end the app is gone, and so are we."""
        for line in sys.stdin:
            message = json.loads(line)
            if "cancel" in message:
                if cancel := self._running.get(message["cancel"]):
                    cancel.set()
                continue
            number = message["answer"]
            cancel = self._running[number] = Cancel()
            answer = threading.Thread(target=self._answer, args=[number, unpack_request(message), cancel], daemon=True)
            answer.start()
        os._exit(0)

    def _answer(self, number: int, request: ChatRequest, cancel: Cancel) -> None:
        try:
            for event in _in_time(self._model.result().answer(request, cancel), cancel, request.seconds):
                self._outbox.put(number, event)
        except BaseException as error:  # the model's code may even call exit(), which would end this thread unseen
            traceback.print_exc()
            self._outbox.put(number, AnswerFailed(_code(error), _words(error)))
        finally:
            del self._running[number]
        self._outbox.flush()  # first what was said: nothing is sent while the model prepares
        model = self._model.result()
        if isinstance(model, SupportsPrepare) and not self._running:
            model.prepare()


def _in_time(events: Iterator[Event], cancel: Cancel, seconds: float | None) -> Iterator[Event]:
    """The events, cancelled once the model has been at work for so many seconds; then that is the reason of the end."""
    if seconds is None:
        yield from events
        return
    over = threading.Event()

    def end() -> None:
        over.set()
        cancel.set()

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        for event in events:
            if isinstance(event, Queued):
                timer.cancel()  # others are served: this answer's time has not begun
                timer = threading.Timer(seconds, end)
            elif isinstance(event, Completed) and event.finish_reason == "cancelled" and over.is_set():
                event = replace(event, finish_reason="timeout")
            elif not timer.is_alive() and not over.is_set():
                timer.start()
            yield event
    finally:
        timer.cancel()


def _code(error: BaseException) -> str:
    if isinstance(error, NoTemplateError):
        return "no_template"
    if isinstance(error, TemplateError):
        return "bad_template"
    if isinstance(error, PromptTooLongError):
        return "refused"
    if isinstance(error, NoTextError):
        return "no_text"
    if isinstance(error, SystemExit):
        return "exited"
    return (
        "refused" if getattr(error, "error_code", "") in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST") else "answer_failed"
    )


def _words(error: BaseException) -> str:
    """The error in one line: its first, without what would make it endless."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300].rstrip(".").encode("utf-8", "replace").decode("utf-8")


def main() -> None:
    # Standard output is the way to the app; libraries that print go to the log.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    spec = ModelSpec(**json.loads(sys.stdin.readline()))
    worker = Worker(Outbox(out))
    serving = threading.Thread(target=worker.serve, name="serve")
    serving.start()
    worker.load(spec)
    serving.join()


if __name__ == "__main__":
    main()
