"""What the API costs over the model alone, and how evenly it serves many."""

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
from bench.concurrency import concurrent_rates
from bench.rows import Bench, Row, TimedAnswer, median_ratio
from phi3_ui.chat.types import Usage
from tests.support.app_server import serve

_TOKENS, _STREAMS = 300, 50
_STREAM_TOKENS = 120  # in each step of the first answers one more prompt is prefilled; then all decode together


def rows(bench: Bench) -> Iterator[Row]:
    """The paths take turns within a round."""
    spec = bench.spec("prompt")
    variables = {"PHI3_UI_MAX_ANSWERS": str(_STREAMS)}
    with (
        serve(bench.settings.home, bench.temporary / "api.log", variables=variables) as server,
        paths.pyfunc_stream(spec) as alone,
        paths.api(server.url, spec.model_id) as through,
    ):
        pairs = [(alone(count), through(count)) for count in (16, *([_TOKENS] * bench.rounds))][1:]
        value = median_ratio([api.rate for _, api in pairs], [raw.rate for raw, _ in pairs])
        rates = [statistics.median(one.rate for one in side) for side in zip(*pairs, strict=True)]
        beside = f"{rates[1]:.0f} and {rates[0]:.0f} tokens/s"
        yield Row("API ÷ pyfunc: tokens/s", f"{value:.3f} ({beside})", "≥ 0.97", value >= 0.97)
        later = statistics.median(1000 * (api.first - raw.first) for raw, api in pairs)
        yield Row("API, first token: later than pyfunc's", f"{later:.0f} ms", "≤ 10 ms", later <= 10)
        tokenizer = _find_tokenizer(Path(str(spec.folder)))
        even = statistics.median(_ask_at_once(server.url, spec.model_id, tokenizer) for _ in range(bench.rounds))
        yield Row(f"{_STREAMS} streams of the API: slowest ÷ fastest", f"{even:.2f}", "≥ 0.8", even >= 0.8)


def _find_tokenizer(folder: Path) -> Any:
    """The tokenizer of a logged ONNX model."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(next(folder.rglob("tokenizer.json"))))


def _ask_at_once(url: str, model: str, tokenizer: Any) -> float:
    """The share of the fastest of many answers' tokens per second that the slowest one gets while all are streamed.

    Tokens are counted, not estimated from the characters: in a window of 70 tokens, that alone makes the extremes of 50
    stories differ by a fifth.
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
    each = concurrent_rates([_count_tokens(tokenizer, answer) for answer in answers])
    return min(each) / max(each)


def _count_tokens(tokenizer: Any, answer: TimedAnswer) -> TimedAnswer:
    """The answer with points that count tokens."""
    texts = [answer.text[:size] for _, size in answer.points]
    counts = [len(found.ids) for found in tokenizer.encode_batch(texts, add_special_tokens=False)]
    points = [(at, count) for (at, _), count in zip(answer.points, counts, strict=True)]
    return replace(answer, points=points, usage=Usage(0, counts[-1]))
