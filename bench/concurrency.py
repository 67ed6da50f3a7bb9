"""Concurrent users of the ONNX model: throughput, fairness, and the effect of a long prompt."""

import itertools
import json
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import mlflow

from bench.long_chats import make_question
from bench.paths import TextPoint
from bench.rows import Bench, Row, TimedAnswer, ask_model, available_cores, median_ratio
from bench.tuning import VARIANTS, build_variant
from phi3_ui.chat.types import Message, Usage
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.prompts.tokenization import PromptFormat

USERS, WRITERS = 8, 3
_TOKENS, _LONG = 100, 300
_CACHE_MB = 1510  # WRITERS + 1 slots of the demo model's 8,192 tokens
_WARM_TOKENS = 40  # tokens of each answer before the long prompt arrives
_TOPICS = ["the sea", "a mountain", "the moon", "a dog", "a small town", "the rain", "bread", "an old king"]
_LATE_QUESTION = Message("user", "What is the capital of France?")


def make_stories() -> list[Message]:
    return [Message("user", f"Write a long story about {topic}, with many chapters.") for topic in _TOPICS]


def ask_concurrently(model: HostedModel) -> list[TimedAnswer]:
    with ThreadPoolExecutor(USERS) as threads:
        return list(threads.map(lambda story: ask_model(model, [story], _TOKENS), make_stories()))


def ask_sequentially(model: HostedModel) -> list[TimedAnswer]:
    """Answer sequentially, as a first-in-first-out queue would."""
    return [ask_model(model, [story], _TOKENS) for story in make_stories()]


def compute_concurrent_rates(answers: list[TimedAnswer]) -> list[float]:
    """Return the tokens per second of each answer in the interval in which all of them were decoding."""
    start, end = max(answer.points[0][0] for answer in answers), min(answer.points[-1][0] for answer in answers)
    if end <= start:
        raise RuntimeError("the answers never decoded at the same time")
    return [(answer.tokens_by(end) - answer.tokens_by(start)) / (end - start) for answer in answers]


def measure_concurrency(bench: Bench) -> Iterator[Row]:
    single, sums, all_, fairness, worst, worst_sequential, in_app = (list[float]() for _ in range(7))
    with bench.hosted("prompt") as model:
        for _ in range(bench.rounds):
            sequential, answers = ask_sequentially(model), ask_concurrently(model)
            single.append(statistics.median(answer.speed.rate for answer in sequential))
            each = compute_concurrent_rates(answers)
            sums.append(sum(each))
            all_.append(compute_throughput(answers))
            fairness.append(min(each) / max(each))
            worst.append(max(answer.first for answer in answers))
            worst_sequential.append(sequential[-1].points[0][0] - sequential[0].asked_at)
            in_app.append(time_late_user(model))
    value, detail = (
        median_ratio(sums, single),
        f"{statistics.median(sums):.0f} and {statistics.median(single):.0f} tokens/s",
    )
    yield Row("8 concurrent users: total tokens/s ÷ one user's", f"{value:.2f} ({detail})", "≥ 0.95", value >= 0.95)
    even, late = statistics.median(fairness), median_ratio(worst, worst_sequential)
    yield Row("8 concurrent users: slowest ÷ fastest", f"{even:.2f}", "≥ 0.8", even >= 0.8)
    detail = f"{statistics.median(worst):.1f} and {statistics.median(worst_sequential):.1f} s"
    yield Row("8 concurrent users: worst first token ÷ sequential", f"{late:.2f} ({detail})", "< 1", late < 1)
    batch = StaticBatch(bench)
    batches = list(run_batches(batch, bench.rounds))
    value, detail = (
        median_ratio(map(compute_throughput, batches), all_),
        f"{statistics.median(map(compute_throughput, batches)):.0f} tokens/s",
    )
    late = statistics.median(max(answer.first for answer in answers) for answers in batches)
    what = "8 users in og.Engine's static batch: tokens/s ÷ the app's, prefill included"
    yield Row(what, f"{value:.2f} ({detail}; worst first token {late:.1f} s)")
    in_batch = [time_late_user_in_batch(batch) for _ in range(bench.rounds)]
    value, late = statistics.median(in_app), statistics.median(in_batch)
    what = f"a question arrives while {WRITERS} answers of {_LONG} tokens decode: time to first text, in the app and in og.Engine's static batch"
    yield Row(what, f"{value:.2f} s and {late:.2f} s")


def compute_throughput(answers: list[TimedAnswer]) -> float:
    """Return the total tokens per second, from the first question to the last token."""
    seconds = max(answer.points[-1][0] for answer in answers) - min(answer.asked_at for answer in answers)
    return sum(answer.usage.completion_tokens for answer in answers) / seconds


class StaticBatch:
    """onnxruntime-genai's own engine with static batching for USERS requests."""

    def __init__(self, bench: Bench) -> None:
        import onnxruntime_genai as og
        from tokenizers import Tokenizer

        # This engine needs the logits of every token; the app's own build computes only those of the last one.
        folder = build_variant(bench, VARIANTS[2])
        metadata = bench.metadata("prompt")
        self._form = PromptFormat(metadata["chat_template"], tuple(metadata["special_tokens"]))
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = og.Config(str(folder))
        decoder = {"session_options": {"intra_op_num_threads": available_cores()}}
        batch = {"static_batching": {"max_batch_size": USERS}}
        # Memory is reserved for the maximum length of every request in the batch.
        config.overlay(json.dumps({"model": {"decoder": decoder}, "engine": batch, "search": {"max_length": 1024}}))
        self._engine = og.Engine(og.Model(config))
        self._buffer = self._engine.create_event_buffer(4 * USERS)

    def submit(self, message: Message, tokens: int) -> Any:
        """Submit a request; the caller closes it after its last token."""
        import numpy as np
        import onnxruntime_genai as og

        prompt = self._tokenizer.encode(self._form.render([message])).ids
        options = og.RequestOptions()
        options.set_max_session_tokens(len(prompt) + tokens)
        request = self._engine.create_request(options=options)
        turn = og.TurnOptions(request)
        turn.set_do_sample(False)
        turn.set_max_generated_tokens(tokens)
        request.begin_turn(np.array(prompt, dtype=np.int32), turn)
        return request

    def tokens(self) -> Iterator[Any]:
        """Yield the request of each generated token until all requests are done."""
        import onnxruntime_genai as og

        while self._engine.has_pending_requests():
            events = [(event.request, event.flags) for event in self._engine.run(self._buffer)]
            if any(flags & og.EngineEventFlags.FAILED for _, flags in events):
                raise RuntimeError("the engine failed a request")
            yield from (request for request, flags in events if flags & og.EngineEventFlags.TOKEN)


def run_batches(batch: StaticBatch, rounds: int) -> Iterator[list[TimedAnswer]]:
    """Answer the same questions in the engine's static batch, once per round; a point is one token."""
    for _ in range(rounds):
        asked_at, points = time.perf_counter(), [list[TextPoint]() for _ in make_stories()]
        requests = [batch.submit(story, _TOKENS) for story in make_stories()]
        for request in batch.tokens():
            received = points[requests.index(request)]
            received.append((time.perf_counter(), len(received) + 1))
        for request in requests:
            request.close()
        yield [TimedAnswer("", asked_at, received, Usage(0, len(received))) for received in points]


def time_late_user(model: HostedModel) -> float:
    """Return the seconds to first text of a question that arrives while WRITERS long answers are decoding."""
    started = [threading.Semaphore(0) for _ in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS) as threads:
        for story, texts in zip(make_stories(), started, strict=False):
            threads.submit(ask_model, model, [story], _LONG, texts.release)
        for texts in started:
            for _ in range(_WARM_TOKENS // 4):  # a text delta has several tokens
                texts.acquire()
        return ask_model(model, [_LATE_QUESTION], 16).first


def time_late_user_in_batch(batch: StaticBatch) -> float:
    """Return the same in the engine's static batch, in seconds to the first token."""
    writers = [batch.submit(story, _LONG) for story in make_stories()[:WRITERS]]
    counts, late, asked_at, first = [0] * WRITERS, None, 0.0, 0.0
    for request in batch.tokens():
        if late is None:
            counts[writers.index(request)] += 1
            if min(counts) == _WARM_TOKENS:
                late, asked_at = batch.submit(_LATE_QUESTION, 16), time.perf_counter()
        elif request == late and not first:
            first = time.perf_counter() - asked_at
    for request in (*writers, late):
        request.close()
    return first


ENGINES = ("genai", "batched")
_SLOTS = ("existing slot", "new slot")


def measure_arrival(bench: Bench) -> Iterator[Row]:
    """Measure the effect of a long prompt on streaming answers, directly on the wrapper, because the outbox merges texts."""
    mlflow.set_tracking_uri(bench.entries["prompt"].tracking_uri)
    found = {(engine, slot): list[Arrival]() for engine in ENGINES for slot in _SLOTS}
    for number in range(bench.rounds):
        for engine in ENGINES:
            # Memory for one slot per user: the first arrival creates its slot, the second reuses one.
            settings = {"cache_mb": _CACHE_MB, "engine": engine}
            model = mlflow.pyfunc.load_model(bench.entries["prompt"].uri, model_config=settings)
            metadata = model.metadata.metadata
            form = PromptFormat(metadata["chat_template"], tuple(metadata["special_tokens"]))
            for slot in reversed(_SLOTS):
                found[engine, slot].append(_time_arrival(model, form, f"{number} {engine} {slot}"))
    for (engine, slot), arrivals in found.items():
        value = median_ratio([one.longest for one in arrivals], [one.normal for one in arrivals])
        longest, normal, first = (
            statistics.median(getattr(one, name) for one in arrivals) for name in ("longest", "normal", "first")
        )
        detail = f"{1000 * longest:.0f} and {1000 * normal:.0f} ms; first token {first:.1f} s"
        what = f"{engine}: a 3,000-token prompt arrives while {WRITERS} answers stream, {slot}: longest ÷ median gap"
        chunk = max(one.chunk for one in arrivals)
        yield Row(what, f"{value:.1f} ({detail}; chunks of {chunk})", "≤ 5", value <= 5)
    warm, ours = found["genai", _SLOTS[0]], found["batched", _SLOTS[1]]
    for name, what, target in (("longest", "longest gap", 1.0), ("first", "first token", 0.6)):
        value = median_ratio([getattr(one, name) for one in ours], [getattr(one, name) for one in warm])
        yield Row(
            f"the same, batched with a new slot ÷ genai with an existing one: {what}",
            f"{value:.2f}",
            f"≤ {target}",
            value <= target,
        )


@dataclass(frozen=True)
class Arrival:
    """The effect of one long prompt. Times are in seconds."""

    normal: float
    """Median gap between two tokens before the prompt arrived."""
    longest: float
    """Longest gap during its prefill."""
    first: float
    """Time to its first token."""
    chunk: int
    """Tokens of the largest prefill chunk."""


def _time_arrival(model: Any, form: PromptFormat, name: str) -> Arrival:
    ended = threading.Event()
    times = [list[list[float]]() for _ in range(WRITERS)]  # per writer and answer: token times

    def write(story: Message, answers: list[list[float]]) -> None:
        while not ended.is_set():
            answers.append([])
            chunks = model.predict_stream({"prompt": form.render([story])}, {"max_tokens": 1000, "temperature": 0.0})
            for chunk in chunks:
                if "prompt_progress" not in chunk:
                    answers[-1].append(time.perf_counter())
                if ended.is_set():
                    break
            chunks.close()

    with ThreadPoolExecutor(WRITERS) as threads:
        try:
            done = [threads.submit(write, *pair) for pair in zip(make_stories()[:WRITERS], times, strict=True)]
            while any(sum(map(len, answers)) < _WARM_TOKENS for answers in times):
                if failed := next((future for future in done if future.done()), None):
                    failed.result()
                time.sleep(0.01)
            prompt = form.render([make_question(f"Arrival {name} {part}", 0) for part in range(18)])
            arrived_at, processed = time.perf_counter(), list[int]()
            for chunk in model.predict_stream({"prompt": prompt}, {"max_tokens": 1, "temperature": 0.0}):
                if progress := chunk.get("prompt_progress"):
                    processed.append(progress["processed"])
            first_token_at = time.perf_counter()
        finally:
            ended.set()
    pairs = [pair for answers in times for answer in answers for pair in itertools.pairwise(answer)]
    # Skip the first tokens: the other prompts are still being prefilled.
    before = [after - at for at, after in pairs if after <= arrived_at][WRITERS * _WARM_TOKENS // 4 :]
    during = [after - at for at, after in pairs if after > arrived_at and at < first_token_at]
    chunk = max(after - at for at, after in itertools.pairwise(processed))
    return Arrival(statistics.median(before), max(during), first_token_at - arrived_at, chunk)
