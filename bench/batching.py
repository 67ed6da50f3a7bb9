"""The two engines of the ONNX model side by side, in this process: throughput, time to first token, memory."""

import multiprocessing
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from bench.concurrency import USERS, compute_concurrent_rates, make_stories
from bench.long_chats import make_question
from bench.rows import Bench, Row, TimedAnswer, ask_model, median_ratio
from phi3_ui.chat.types import Message
from phi3_ui.contracts.onnx_prompt import OnnxPromptContract
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.host.worker import load_adapter

_TOKENS, _SINGLE = 100, 200
_CHAT_TOKENS = 500


class GenaiContract(OnnxPromptContract):
    """The contract *prompt* with ONNX Runtime GenAI, the wrapper's default engine."""

    def model_config(self, cache_mb: int) -> dict[str, Any] | None:
        return {"engine": "genai"}


def load_engines(bench: Bench) -> dict[str, Any]:
    """Return the app's adapter for each engine, warmed up."""
    spec = bench.spec("prompt")
    engines: dict[str, Any] = {"genai": load_adapter(spec, GenaiContract()), "batched": load_adapter(spec)}
    for name, adapter in engines.items():
        found = adapter._model.unwrap_python_model()._scheduler._engine.name
        if found != name:
            raise RuntimeError(f"requested engine {name}, but got {found}: log the model again")
        ask_model(adapter, [Message("user", "Hello.")], 16)
    return engines


def ask_together(adapter: Any, messages: Sequence[Message], tokens: int = _TOKENS) -> list[TimedAnswer]:
    with ThreadPoolExecutor(len(messages)) as threads:
        return list(threads.map(lambda message: ask_model(adapter, [message], tokens), messages))


def make_long_questions(name: str) -> list[Message]:
    """Return one question of about 500 tokens per user."""
    return [
        Message("user", " ".join(make_question(f"{name} {user}", part).content for part in range(3)))
        for user in range(USERS)
    ]


def measure_rows(bench: Bench) -> Iterator[Row]:
    """Measure throughput and time to first token."""
    engines = load_engines(bench)
    single: dict[str, list[float]] = {name: [] for name in engines}
    worst: dict[str, list[float]] = {name: [] for name in engines}
    sums, sums_long, single_long, evenness = (list[float]() for _ in range(4))
    for number in range(bench.rounds):
        for name, adapter in engines.items():
            single[name].append(ask_model(adapter, make_stories()[:1], _SINGLE).speed.rate)
            answers = ask_together(adapter, [Message("user", f"{number}. {story.content}") for story in make_stories()])
            worst[name].append(max(answer.first for answer in answers))
            if name == "batched":
                rates = compute_concurrent_rates(answers)
                sums.append(sum(rates))
                evenness.append(min(rates) / max(rates))
                questions = make_long_questions(f"Round {number}")
                for question in questions:
                    ask_model(adapter, [question], 1)  # prefilled, so that all decode at the same time
                single_long.append(ask_model(adapter, questions[:1], _TOKENS).speed.rate)
                sums_long.append(sum(compute_concurrent_rates(ask_together(adapter, questions))))
    value = median_ratio(single["batched"], single["genai"])
    detail = f"{statistics.median(single['batched']):.0f} and {statistics.median(single['genai']):.0f} tokens/s"
    yield Row("batched engine ÷ ONNX Runtime GenAI: one stream", f"{value:.2f} ({detail})", "≥ 0.98", value >= 0.98)
    value = median_ratio(sums, single["batched"])
    yield Row(f"batched: {USERS} users ÷ one, short prompts", f"{value:.2f}", "≥ 2.5", value >= 2.5)
    value = median_ratio(sums_long, single_long)
    yield Row(f"batched: {USERS} users ÷ one, prompts of 500 tokens", f"{value:.2f}", "≥ 1.8", value >= 1.8)
    value = statistics.median(evenness)
    yield Row(f"batched: slowest ÷ fastest of {USERS}", f"{value:.2f}", "≥ 0.8", value >= 0.8)
    value = median_ratio(worst["batched"], worst["genai"])
    detail = f"{statistics.median(worst['batched']):.2f} and {statistics.median(worst['genai']):.2f} s"
    what = f"batched ÷ ONNX Runtime GenAI: worst first token of {USERS}"
    yield Row(what, f"{value:.2f} ({detail})", "≤ 0.6", value <= 0.6)


def measure_memory(bench: Bench) -> Iterator[Row]:
    """Measure the memory for 8 chats, with each engine in its own process: the second would reuse memory freed by the first."""
    spec, grown = bench.spec("prompt"), dict[str, int]()
    for name in ("genai", "batched"):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            grown[name] = process.submit(measure_growth, spec, name).result()
    value = grown["batched"] / grown["genai"]
    detail = f"{grown['batched'] / 1e6:.0f} and {grown['genai'] / 1e6:.0f} MB"
    what = f"batched ÷ ONNX Runtime GenAI: memory of {USERS} chats of {_CHAT_TOKENS} tokens"
    yield Row(what, f"{value:.2f} ({detail})", "≤ 0.5", value <= 0.5)


def measure_growth(spec: ModelSpec, engine: str) -> int:
    """Return the growth of this process in bytes while 8 chats start, after a first one."""
    adapter = load_adapter(spec, GenaiContract() if engine == "genai" else None)
    ask_model(adapter, [Message("user", "Hello.")], 1)
    before = _resident_bytes()
    for question in make_long_questions(engine):
        ask_model(adapter, [question], 8)
    return _resident_bytes() - before


def _resident_bytes() -> int:
    """Return the bytes of memory that this process has written to, including swapped-out pages."""
    with open("/proc/self/status", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return sum(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmSwap"))
