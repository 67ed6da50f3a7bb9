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
from phi3_ui.chat.tokenization import PromptFormat
from phi3_ui.chat.types import Message, Usage
from phi3_ui.host.hosted_model import HostedModel

PEOPLE, WRITERS = 8, 3
_TOKENS = 100
_CACHE_MB = 1510  # WRITERS + 1 slots of the demo model's 8,192 tokens
_BEFORE = 40  # tokens that everybody has written before the long prompt comes
_TOPICS = ["the sea", "a mountain", "the moon", "a dog", "a small town", "the rain", "bread", "an old king"]


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
    alone, sums, all_, evenness, worst, worst_in_line = (list[float]() for _ in range(6))
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
    value, beside = ratio(sums, alone), f"{statistics.median(sums):.0f} and {statistics.median(alone):.0f} tokens/s"
    yield Row("8 people at once: their tokens/s together ÷ one's", f"{value:.2f} ({beside})", "≥ 0.95", value >= 0.95)
    even, late = statistics.median(evenness), ratio(worst, worst_in_line)
    yield Row("8 people at once: slowest ÷ fastest", f"{even:.2f}", "≥ 0.8", even >= 0.8)
    beside = f"{statistics.median(worst):.1f} and {statistics.median(worst_in_line):.1f} s"
    yield Row("8 people at once: worst first token ÷ one after the other", f"{late:.2f} ({beside})", "< 1", late < 1)
    batches = list(batched(bench))
    value, beside = ratio(map(throughput, batches), all_), f"{statistics.median(map(throughput, batches)):.0f} tokens/s"
    late = statistics.median(max(one.first for one in said) for said in batches)
    what = "8 at once in og.Engine's static batch: tokens/s ÷ the app's, prompts included"
    yield Row(what, f"{value:.2f} ({beside}; worst first token {late:.1f} s)")


def throughput(said: list[Said]) -> float:
    """All their tokens over the time from the first question to the last word."""
    seconds = max(one.points[-1][0] for one in said) - min(one.asked for one in said)
    return sum(one.usage.completion_tokens for one in said) / seconds


def batched(bench: Bench) -> Iterator[list[Said]]:
    """The same stories, for each round, by the engine's own batch, which may take some after the others; a point is a token."""
    import numpy as np
    import onnxruntime_genai as og
    from tokenizers import Tokenizer

    # The engine's batch wants logits of every token, and fails on the app's own build, which gives those of the last.
    folder = built(bench, VARIANTS[2])
    metadata = mlflow.models.get_model_info(bench.entries["prompt"].uri).metadata
    form = PromptFormat(metadata["chat_template"], tuple(metadata["special_tokens"]))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    prompts = [tokenizer.encode(form.render([story])).ids for story in stories()]
    config = og.Config(str(folder))
    decoder = {"session_options": {"intra_op_num_threads": cores()}}
    batch = {"static_batching": {"max_batch_size": PEOPLE}}
    # The batch's memory is reserved for the longest that a request may become.
    config.overlay(json.dumps({"model": {"decoder": decoder}, "engine": batch, "search": {"max_length": 1024}}))
    engine = og.Engine(og.Model(config))
    buffer = engine.create_event_buffer(4 * PEOPLE)
    for _ in range(bench.rounds):
        asked, points = time.perf_counter(), [list[Point]() for _ in prompts]
        requests = []
        for prompt in prompts:
            options = og.RequestOptions()
            options.set_max_session_tokens(len(prompt) + _TOKENS)
            requests.append(engine.create_request(options=options))
            turn = og.TurnOptions(requests[-1])
            turn.set_do_sample(False)
            turn.set_max_generated_tokens(_TOKENS)
            requests[-1].begin_turn(np.array(prompt, dtype=np.int32), turn)
        while engine.has_pending_requests():
            for event in engine.run(buffer):
                if event.flags & og.EngineEventFlags.FAILED:
                    raise RuntimeError("the engine failed a request")
                if event.flags & og.EngineEventFlags.TOKEN:
                    of = points[requests.index(event.request)]
                    of.append((time.perf_counter(), len(of) + 1))
        for request in requests:
            request.close()
        yield [Said("", asked, of, Usage(0, len(of))) for of in points]


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
