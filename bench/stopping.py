"""Computation after a stop, counted in the engine, in this process, with the app's adapters."""

import functools
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.long_chats import make_question
from bench.paths import QUESTION
from bench.rows import Bench, Row
from phi3_ui.chat.types import CancelToken, ChatRequest, GenerationParams, Message
from phi3_ui.host.worker import load_adapter

_WRITTEN = 10  # steps before the stop
_NAMES = {"prompt": "ONNX", "chat": "pipeline"}


@dataclass
class Steps:
    """The steps of the engine, as (end time, tokens)."""

    ended: list[tuple[float, int]] = field(default_factory=list)

    def counted(self, compute: Callable[..., Any], tokens: Callable[..., int]) -> Callable[..., Any]:
        @functools.wraps(compute)
        def counting(*arguments: Any, **named: Any) -> Any:
            result = compute(*arguments, **named)
            self.ended.append((time.perf_counter(), tokens(*arguments, **named)))
            return result

        return counting

    def after(self, at: float) -> list[int]:
        return [tokens for ended, tokens in self.ended if ended > at]


def measure_rows(bench: Bench) -> Iterator[Row]:
    for contract, name in _NAMES.items():
        adapter = load_adapter(bench.spec(contract))
        with count_steps(contract, adapter) as steps:
            yield from _measure_model(bench, name, adapter, steps)
        del adapter


@contextmanager
def count_steps(contract: str, adapter: Any) -> Iterator[Steps]:
    """Record the steps of the engine behind an adapter."""
    steps = Steps()
    if contract == "prompt":
        engine = adapter._model.unwrap_python_model()._scheduler._engine
        engine.prefill = steps.counted(engine.prefill, lambda row, tokens, wants_logits: len(tokens))
        if engine.is_batched:  # otherwise it steps by prefilling
            engine.step = steps.counted(engine.step, lambda rows, tokens, exact: len(tokens))
        yield steps
    else:
        network = adapter._model.get_raw_model().model
        network.forward = steps.counted(network.forward, lambda *_, input_ids, **__: input_ids.shape[-1])
        yield steps


def _measure_model(bench: Bench, name: str, adapter: Any, steps: Steps) -> Iterator[Row]:
    decode, prompt_pieces, prompt_tokens, seconds = list[int](), list[int](), list[int](), list[float]()
    story = [Message("user", QUESTION)]
    list(adapter.answer(ChatRequest(tuple(story), GenerationParams(8, 0.0)), CancelToken()))  # warm-up
    for number in range(bench.rounds):
        stopped, _ = _stop(adapter, steps, story, lambda: len(steps.ended) >= _WRITTEN)
        decode.append(len(steps.after(stopped)))
        # After half a second, this prefill is in progress on any machine: it takes seconds.
        long = [make_question(f"Stop {number} {part}", 0) for part in range(18)]
        stopped, ended = _stop(adapter, steps, long, functools.partial(_is_past, time.perf_counter() + 0.5))
        prompt_pieces.append(len(steps.after(stopped)))
        prompt_tokens += [tokens for _, tokens in steps.ended]
        seconds.append(ended - stopped)
    decoded, chunks = max(decode), max(prompt_pieces)
    yield Row(f"{name}: tokens computed after a stop while decoding", f"at most {decoded}", "≤ 2", decoded <= 2)
    size = max(prompt_tokens, default=0)
    measured = f"at most {chunks}, of {size} tokens; ended after {statistics.median(seconds):.2f} s"
    # A prefill in one chunk cannot be stopped.
    yield Row(
        f"{name}: prefill chunks computed after a stop in a 3,000-token prompt",
        measured,
        "≤ 1",
        chunks <= 1 and size < 1000,
    )

    if name == "ONNX":  # only its engine can be interrupted within a step
        longest = 1000 * max(seconds)
        yield Row(f"{name}: time from a stop in this prompt to the end", f"{longest:.0f} ms", "≤ 50 ms", longest <= 50)


def _is_past(deadline: float) -> bool:
    return time.perf_counter() > deadline


def _stop(adapter: Any, steps: Steps, messages: list[Message], due: Callable[[], bool]) -> tuple[float, float]:
    """Ask, and stop from another thread once `due()` is true. Return the times of the stop and of the end."""
    steps.ended.clear()
    cancel, stopped = CancelToken(), list[float]()

    def stop() -> None:
        while not due():
            time.sleep(0.001)
        stopped.append(time.perf_counter())
        cancel.set()

    stopping = threading.Thread(target=stop)
    stopping.start()
    list(adapter.answer(ChatRequest(tuple(messages), GenerationParams(400, 0.0)), cancel))
    ended = time.perf_counter()
    stopping.join()
    return stopped[0], ended
