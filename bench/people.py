"""Several people at once, ONNX: what they get together, whether all get the same, and what a long prompt does to them."""

import itertools
import json
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlflow

from bench.paths import Point
from bench.rows import Bench, Row, Said, ask, cores, ratio
from bench.tuning import VARIANTS, built
from bench.turns import question
from phi3_ui.chat.types import Message, Usage
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.prompts.tokenization import PromptFormat

PEOPLE, WRITERS = 8, 3
_TOKENS, _LONG = 100, 300
_CACHE_MB = 1510  # WRITERS + 1 slots of the demo model's 8,192 tokens
_BEFORE = 40  # tokens that everybody has written before the long prompt comes
_TOPICS = ["the sea", "a mountain", "the moon", "a dog", "a small town", "the rain", "bread", "an old king"]
_NEWCOMER = Message("user", "What is the capital of France?")


def stories() -> list[Message]:
    return [Message("user", f"Write a long story about {topic}, with many chapters.") for topic in _TOPICS]


def together(model: HostedModel) -> list[Said]:
    with ThreadPoolExecutor(PEOPLE) as threads:
        return list(threads.map(lambda story: ask(model, [story], _TOKENS), stories()))


def in_line(model: HostedModel) -> list[Said]:
    """One after the other, as if all had asked at once and each waited for those before."""
    return [ask(model, [story], _TOKENS) for story in stories()]


def rates(said: list[Said]) -> list[float]:
    """Each one's tokens per second while all were writing."""
    start, end = max(one.points[0][0] for one in said), min(one.points[-1][0] for one in said)
    if end <= start:
        raise RuntimeError("they never wrote all at once")
    return [(one.tokens_by(end) - one.tokens_by(start)) / (end - start) for one in said]


def eight(bench: Bench) -> Iterator[Row]:
    alone, sums, all_, evenness, worst, worst_in_line, ours = (list[float]() for _ in range(7))
    with bench.hosted("prompt") as model:
        for _ in range(bench.rounds):
            lined, said = in_line(model), together(model)
            alone.append(statistics.median(one.figure.rate for one in lined))
            each = rates(said)
            sums.append(sum(each))
            all_.append(throughput(said))
            evenness.append(min(each) / max(each))
            worst.append(max(one.first for one in said))
            worst_in_line.append(lined[-1].points[0][0] - lined[0].asked)
            ours.append(newcomer(model))
    value, beside = ratio(sums, alone), f"{statistics.median(sums):.0f} and {statistics.median(alone):.0f} tokens/s"
    yield Row("8 people at once: their tokens/s together ÷ one's", f"{value:.2f} ({beside})", "≥ 0.95", value >= 0.95)
    even, late = statistics.median(evenness), ratio(worst, worst_in_line)
    yield Row("8 people at once: slowest ÷ fastest", f"{even:.2f}", "≥ 0.8", even >= 0.8)
    beside = f"{statistics.median(worst):.1f} and {statistics.median(worst_in_line):.1f} s"
    yield Row("8 people at once: worst first token ÷ one after the other", f"{late:.2f} ({beside})", "< 1", late < 1)
    batch = _Batch(bench)
    batches = list(batched(batch, bench.rounds))
    value, beside = ratio(map(throughput, batches), all_), f"{statistics.median(map(throughput, batches)):.0f} tokens/s"
    late = statistics.median(max(one.first for one in said) for said in batches)
    what = "8 at once in og.Engine's static batch: tokens/s ÷ the app's, prompts included"
    yield Row(what, f"{value:.2f} ({beside}; worst first token {late:.1f} s)")
    theirs = [newcomer_in(batch) for _ in range(bench.rounds)]
    value, late = statistics.median(ours), statistics.median(theirs)
    what = f"who asks while {WRITERS} write {_LONG} tokens each: first text, and in og.Engine's static batch"
    yield Row(what, f"{value:.2f} s, and {late:.2f} s")


def throughput(said: list[Said]) -> float:
    """All their tokens over the time from the first question to the last word."""
    seconds = max(one.points[-1][0] for one in said) - min(one.asked for one in said)
    return sum(one.usage.completion_tokens for one in said) / seconds


class _Batch:
    """onnxruntime-genai's own engine, with room for PEOPLE at once."""

    def __init__(self, bench: Bench) -> None:
        import onnxruntime_genai as og
        from tokenizers import Tokenizer

        # The engine's batch wants logits of every token, and fails on the app's own build, which gives those of the last.
        folder = built(bench, VARIANTS[2])
        metadata = mlflow.models.get_model_info(bench.entries["prompt"].uri).metadata
        self._form = PromptFormat(metadata["chat_template"], tuple(metadata["special_tokens"]))
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = og.Config(str(folder))
        decoder = {"session_options": {"intra_op_num_threads": cores()}}
        batch = {"static_batching": {"max_batch_size": PEOPLE}}
        # The batch's memory is reserved for the longest that a request may become.
        config.overlay(json.dumps({"model": {"decoder": decoder}, "engine": batch, "search": {"max_length": 1024}}))
        self._engine = og.Engine(og.Model(config))
        self._buffer = self._engine.create_event_buffer(4 * PEOPLE)

    def ask(self, message: Message, tokens: int) -> Any:
        """A request, which is to be closed once all tokens are there."""
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
        """The request of each token that comes, until all requests are served."""
        import onnxruntime_genai as og

        while self._engine.has_pending_requests():
            events = [(event.request, event.flags) for event in self._engine.run(self._buffer)]
            if any(flags & og.EngineEventFlags.FAILED for _, flags in events):
                raise RuntimeError("the engine failed a request")
            yield from (request for request, flags in events if flags & og.EngineEventFlags.TOKEN)


def batched(batch: _Batch, rounds: int) -> Iterator[list[Said]]:
    """The same stories, for each round, by the engine's own batch, which may take some after the others; a point is a token."""
    for _ in range(rounds):
        asked, points = time.perf_counter(), [list[Point]() for _ in stories()]
        requests = [batch.ask(story, _TOKENS) for story in stories()]
        for request in batch.tokens():
            of = points[requests.index(request)]
            of.append((time.perf_counter(), len(of) + 1))
        for request in requests:
            request.close()
        yield [Said("", asked, of, Usage(0, len(of))) for of in points]


def newcomer(model: HostedModel) -> float:
    """Seconds to the first text of somebody who asks while WRITERS write long answers."""
    began = [threading.Semaphore(0) for _ in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS) as threads:
        for story, texts in zip(stories(), began, strict=False):
            threads.submit(ask, model, [story], _LONG, texts.release)
        for texts in began:
            for _ in range(_BEFORE // 4):  # a text is several tokens
                texts.acquire()
        return ask(model, [_NEWCOMER], 16).first


def newcomer_in(batch: _Batch) -> float:
    """The same in the engine's own batch; the first token counts."""
    writers = [batch.ask(story, _LONG) for story in stories()[:WRITERS]]
    counts, late, asked, first = [0] * WRITERS, None, 0.0, 0.0
    for request in batch.tokens():
        if late is None:
            counts[writers.index(request)] += 1
            if min(counts) == _BEFORE:
                late, asked = batch.ask(_NEWCOMER, 16), time.perf_counter()
        elif request == late and not first:
            first = time.perf_counter() - asked
    for request in (*writers, late):
        request.close()
    return first


def arrival(bench: Bench) -> Iterator[Row]:
    """A long prompt comes while others stream. The outbox joins texts, so it is watched on the wrapper itself."""
    mlflow.set_tracking_uri(bench.entries["prompt"].tracking_uri)
    slots = ("its slot is there already", "its slot must be made first")
    normal, longest, pieces = ({slot: list[float]() for slot in slots} for _ in range(3))
    for number in range(bench.rounds):
        # Room for as many slots as people: the first time each is made, later all are there.
        model = mlflow.pyfunc.load_model(bench.entries["prompt"].uri, model_config={"cache_mb": _CACHE_MB})
        metadata = model.metadata.metadata
        form = PromptFormat(metadata["chat_template"], tuple(metadata["special_tokens"]))
        for slot in reversed(slots):
            found = _arrive(model, form, f"{number} {slot}")
            for values, value in zip((normal, longest, pieces), found, strict=True):
                values[slot].append(value)
    for slot in slots:
        value = ratio(longest[slot], normal[slot])
        beside = f"{1000 * statistics.median(longest[slot]):.0f} and {1000 * statistics.median(normal[slot]):.0f} ms"
        what = f"a prompt of 3,000 tokens comes while {WRITERS} stream, and {slot}: longest gap ÷ normal"
        yield Row(what, f"{value:.1f} ({beside}; read {max(pieces[slot]):.0f} at a time)", "≤ 5", value <= 5)


def _arrive(model: Any, form: PromptFormat, name: str) -> tuple[float, float, int]:
    """Seconds between a person's tokens before the prompt came (median) and at the most while it was read; largest piece."""
    ended = threading.Event()
    times = [list[list[float]]() for _ in range(WRITERS)]  # of each one's answers, of each its tokens

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
            done = [threads.submit(write, *pair) for pair in zip(stories()[:WRITERS], times, strict=True)]
            while any(sum(map(len, answers)) < _BEFORE for answers in times):
                if failed := next((one for one in done if one.done()), None):
                    failed.result()
                time.sleep(0.01)
            prompt = form.render([question(f"Arrival {name} {part}", 0) for part in range(18)])
            came, read = time.perf_counter(), list[int]()
            for chunk in model.predict_stream({"prompt": prompt}, {"max_tokens": 1, "temperature": 0.0}):
                if progress := chunk.get("prompt_progress"):
                    read.append(progress["processed"])
            gone = time.perf_counter()
        finally:
            ended.set()
    pairs = [pair for answers in times for answer in answers for pair in itertools.pairwise(answer)]
    # The first tokens of all are while the others' prompts are read.
    before = [after - at for at, after in pairs if after <= came][WRITERS * _BEFORE // 4 :]
    during = [after - at for at, after in pairs if after > came and at < gone]
    return statistics.median(before), max(during), max(after - at for at, after in itertools.pairwise(read))
