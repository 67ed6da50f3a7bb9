"""Overhead of the API over the model alone, and fairness between many streams."""

import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from openai import OpenAI

from bench import paths
from bench.concurrency import compute_concurrent_rates
from bench.rows import Bench, Row, TimedAnswer, median_ratio
from phi3_ui.chat.types import Usage
from tests.support.app_server import serve

_TOKENS, _STREAMS = 300, 50
_STREAM_TOKENS = 120
"""Per stream. The first answers decode while the other prompts are prefilled, one per step; then all decode together."""


def measure_rows(bench: Bench) -> Iterator[Row]:
    """Measure the API and pyfunc, alternating within a round, and then many streams."""
    spec = bench.spec("prompt")
    variables = {"PHI3_UI_MAX_ANSWERS": str(_STREAMS)}
    with (
        serve(bench.settings.home, bench.temporary / "api.log", variables=variables) as server,
        paths.open_pyfunc_stream(spec) as call_pyfunc,
        paths.open_api(server.url, spec.model_id) as call_api,
    ):
        pairs = [(call_pyfunc(count), call_api(count)) for count in (16, *([_TOKENS] * bench.rounds))][1:]
        value = median_ratio([api.rate for _, api in pairs], [raw.rate for raw, _ in pairs])
        rates = [statistics.median(one.rate for one in side) for side in zip(*pairs, strict=True)]
        detail = f"{rates[1]:.0f} and {rates[0]:.0f} tokens/s"
        yield Row("API ÷ pyfunc: tokens/s", f"{value:.3f} ({detail})", "≥ 0.97", value >= 0.97)
        later = statistics.median(1000 * (api.first - raw.first) for raw, api in pairs)
        yield Row("API: added time to first token over pyfunc", f"{later:.0f} ms", "≤ 10 ms", later <= 10)
        tokenizer = _find_tokenizer(Path(str(spec.folder)))
        even = statistics.median(_ask_at_once(server.url, spec.model_id, tokenizer) for _ in range(bench.rounds))
        yield Row(f"{_STREAMS} API streams: slowest ÷ fastest", f"{even:.2f}", "≥ 0.8", even >= 0.8)


def _find_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a logged ONNX model."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(next(folder.rglob("tokenizer.json"))))


def _ask_at_once(url: str, model: str, tokenizer: Any) -> float:
    """Return the ratio of the slowest to the fastest answer's tokens per second, while all of them are streaming.

    Tokens are counted rather than estimated from characters: in a window of 70 tokens, estimation alone makes the extremes
    of 50 stories differ by a fifth.
    """
    gate = threading.Barrier(_STREAMS)
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client, ThreadPoolExecutor(_STREAMS) as threads:

        def ask(number: int) -> TimedAnswer:
            gate.wait()
            started = time.perf_counter()
            texts = list[str]()
            question = f"Write a long story, number {number}."
            points, _ = paths.receive_api(client, model, question, _STREAM_TOKENS, texts.append)
            return TimedAnswer("".join(texts), started, points, Usage(0, 0))

        answers = list(threads.map(ask, range(_STREAMS)))
    each = compute_concurrent_rates([_count_tokens(tokenizer, answer) for answer in answers])
    return min(each) / max(each)


def _count_tokens(tokenizer: Any, answer: TimedAnswer) -> TimedAnswer:
    """Return the answer with points that count tokens instead of characters."""
    texts = [answer.text[:size] for _, size in answer.points]
    counts = [len(found.ids) for found in tokenizer.encode_batch(texts, add_special_tokens=False)]
    points = [(at, count) for (at, _), count in zip(answer.points, counts, strict=True)]
    return replace(answer, points=points, usage=Usage(0, counts[-1]))
