"""The batched engine: answers do not depend on the batch, steps can be interrupted, and unused memory is freed."""

import contextlib
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.phi3_onnx import Options
from models.phi3_onnx_engine import OnnxFolder, PrefillProgress, Scheduler, Token
from models.phi3_onnx_engine.batched import BatchedEngine
from models.phi3_onnx_engine.engine import SHORT_ROPE_LENGTH, Engine, Logits
from models.phi3_onnx_engine.genai import GenaiEngine
from models.phi3_onnx_engine.kv_pool import KVPool
from tests.engine.engines import BUDGET, get_token_ids, load_wrapper, make_request, open_batched, random_ids
from tests.support.tiny_models import LONG_CONTEXT, QUANTISED, TinyModels, Variant


@pytest.mark.parametrize(
    "variant", [Variant(), LONG_CONTEXT, *(Variant(precision=name) for name in QUANTISED)], ids=str
)
def test_logits_equal_those_of_genai_bit_for_bit(tiny_models: TinyModels, variant: Variant) -> None:
    """Use four rows of different lengths, the last beyond the sliding window."""
    folder = tiny_models.onnx(variant)
    engines: list[Engine] = [GenaiEngine(OnnxFolder(folder), 1), open_batched(folder)]
    prompts = [random_ids(length, length) for length in (2, 70, 33, 2200)]
    rows = [[engine.allocate(2300) for _ in prompts] for engine in engines]
    last = []
    for number, prompt in enumerate(prompts):
        for start in range(0, len(prompt), 64):
            genai, batched = (
                engine.prefill(engine_rows[number], prompt[start : start + 64])  # type: ignore[arg-type]
                for engine, engine_rows in zip(engines, rows, strict=True)
            )
            np.testing.assert_array_equal(genai, batched)
        last.append(int(batched.argmax()))
    for _ in range(12):
        genai, batched = (
            np.stack(engine.step(engine_rows, last, exact=True))  # type: ignore[arg-type]
            for engine, engine_rows in zip(engines, rows, strict=True)
        )
        if variant.precision == "fp32":
            np.testing.assert_array_equal(genai, batched)
        else:  # genai computes each token alone, which uses another kernel on some processors
            np.testing.assert_allclose(genai, batched, atol=1.0)
        last = batched.argmax(-1).tolist()


def test_a_token_computed_with_a_dummy_has_the_same_logits(tiny_models: TinyModels) -> None:
    """Act as on processors that use another kernel for one token than for two."""
    engine = open_batched(tiny_models.onnx(Variant(precision="int8")))
    engine._exact_tokens = 2
    rows = [engine.allocate(100) for _ in range(3)]
    assert all(rows)
    for row in rows:
        engine.prefill(row, random_ids(1, 40))  # type: ignore[arg-type]
    (alone,) = engine.step([rows[0]], [7], exact=True)  # type: ignore[list-item]
    together = engine.step([rows[2], rows[1]], [7, 7], exact=True)  # type: ignore[list-item]
    for logits in together:
        np.testing.assert_array_equal(logits, alone)


@pytest.fixture(scope="module", params=QUANTISED)
def engines(request: pytest.FixtureRequest, tiny_models: TinyModels) -> tuple[BatchedEngine, BatchedEngine]:
    """Open two engines for the same quantised model."""
    folder = tiny_models.onnx(Variant(precision=request.param))
    return open_batched(folder), open_batched(folder)


_requests = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(1, 150), st.integers(1, 25), st.booleans(), st.integers(0, 40)),
    min_size=2,
    max_size=7,
)
"""For each request: a seed, the length of its prompt, its maximum number of tokens, whether it shares a prefix with others, and
the number of rounds until the next request arrives."""


@hypothesis_settings(deadline=None, max_examples=25)
@given(_requests, st.lists(st.integers(0, 30), min_size=7, max_size=7))
def test_repeatable_answers_do_not_depend_on_concurrent_requests(
    engines: tuple[BatchedEngine, BatchedEngine],
    requests: list[tuple[int, int, int, bool, int]],
    close_after: list[int],
) -> None:
    """Every third request is closed early; the others get the same answers as from an engine without other requests."""
    shared, alone = (Scheduler(engine, BUDGET) for engine in engines)
    prompts = [
        random_ids(1, 90)[: seed % 90] * has_prefix + random_ids(seed, length)
        for seed, length, _, has_prefix, _ in requests
    ]
    max_tokens = [tokens for _, _, tokens, _, _ in requests]
    running = [
        shared.generate(make_request(prompt, count, True)) for prompt, count in zip(prompts, max_tokens, strict=True)
    ]
    generated: list[list[int]] = [[] for _ in requests]
    pending = [(sum(wait for *_, wait in requests[:number]), number) for number in range(len(requests))]
    active: list[int] = []
    step = 0
    while pending or active:
        active += [number for arrival, number in pending if arrival <= step or not active]
        pending = [(arrival, number) for arrival, number in pending if number not in active and arrival > step]
        for number in list(active):
            event = next(running[number], None)
            if isinstance(event, Token):
                generated[number].append(event.id)
            if event is None or (number % 3 == 2 and len(generated[number]) > close_after[number]):
                running[number].close()
                active.remove(number)
        step += 1
    for number, prompt in enumerate(prompts):
        clear_cache(alone)
        expected = get_token_ids(alone.generate(make_request(prompt, max_tokens[number], True)))
        assert generated[number] == expected[: len(generated[number])]
        assert number % 3 == 2 or len(generated[number]) == max_tokens[number]
    for engine, scheduler in zip(engines, (shared, alone), strict=True):
        clear_cache(scheduler)
        assert not any(engine._rows), "no row leaks"


def clear_cache(scheduler: Scheduler) -> None:
    for slot in list(scheduler._slots._slots):
        assert not slot.row.reserved
        scheduler._slots.discard(slot)


def test_a_seeded_answer_does_not_depend_on_concurrent_requests(tiny_models: TinyModels) -> None:
    wrapper = load_wrapper(tiny_models.onnx(Variant(precision="int4")))
    options = Options(max_tokens=30, temperature=1.0, seed=7, presence_penalty=0.5, repetition_penalty=1.1)

    def answer() -> str:
        request = wrapper._build_request(random_ids(5, 80), options)
        return "".join(update.text for update in wrapper._answer(request, ()))

    expected = answer()
    others = [wrapper._scheduler.generate(make_request(random_ids(seed, 30), 200)) for seed in range(3)]
    for other in others:
        while not isinstance(next(other), Token):
            pass
    assert answer() == expected
    assert all(get_token_ids(other) for other in others)


def test_the_prefix_of_a_running_answer_is_copied(tiny_onnx: Path) -> None:
    scheduler = Scheduler(open_batched(tiny_onnx), BUDGET)
    system = random_ids(1, 200)
    first = scheduler.generate(make_request([*system, 20, 21], 50))
    while not isinstance(next(first), Token):
        pass
    second = scheduler.generate(make_request([*system, 30, 31, 32], 20))
    assert next(second) == PrefillProgress(200)
    answer, rest = get_token_ids(second), get_token_ids(first)
    assert len(rest) == 49
    clear_cache(scheduler)
    assert get_token_ids(scheduler.generate(make_request([*system, 30, 31, 32], 20))) == answer


def test_memory_is_counted_by_tokens_in_use_and_returned_to_the_system(tiny_onnx: Path) -> None:
    engine = open_batched(tiny_onnx)
    scheduler = Scheduler(engine, BUDGET)
    list(scheduler.generate(make_request(random_ids(1, 500), 10)))
    assert scheduler.stats().used_bytes == 509 * engine.token_bytes, "the last token was never computed"
    (slot,) = scheduler._slots._slots
    keys = engine._pool.tensors[0][engine._get_pooled(slot.row).index, 0]
    assert keys[:500].any(-1).all()

    list(scheduler.generate(make_request([*random_ids(1, 400), 20, 21], 1)))
    assert scheduler.stats().used_bytes == 402 * engine.token_bytes
    if sys.platform == "linux":  # other systems may free the pages later
        assert not keys[450:].any(), "freed pages read as zeros"
    scheduler._slots.discard(slot)
    if sys.platform == "linux":
        assert not keys[:450].any()


def test_a_longer_chat_lengthens_all_rows_and_keeps_their_content(tiny_onnx: Path) -> None:
    engine = open_batched(tiny_onnx, budget=2_400_000)  # for 2,343 tokens; four times as many are mapped
    assert (engine._pool.rows, engine._pool.length) == (9, 1024)
    scheduler = Scheduler(engine, 2_400_000)
    short = make_request(random_ids(1, 100), 20)
    running = scheduler.generate(short)
    while not isinstance(next(running), Token):
        pass
    long = scheduler.generate(make_request(random_ids(2, 2000), 5))
    assert next(long) == PrefillProgress(0)
    assert (engine._pool.rows, engine._pool.length) == (4, 2048)
    rest = get_token_ids(running)
    assert len(get_token_ids(long)) == 5
    clear_cache(scheduler)
    assert get_token_ids(scheduler.generate(make_request(random_ids(1, 100), 20)))[1:] == rest


def test_rows_become_shorter_and_more_numerous_once_no_chat_needs_long_ones(tiny_onnx: Path) -> None:
    engine = open_batched(tiny_onnx, budget=2_400_000)
    scheduler = Scheduler(engine, 2_400_000)
    expected = [get_token_ids(scheduler.generate(make_request(random_ids(seed, 30), 20, True))) for seed in range(6)]
    list(scheduler.generate(make_request(random_ids(9, 2000), 5)))
    assert (engine._pool.rows, engine._pool.length) == (4, 2048)
    running = [scheduler.generate(make_request(random_ids(seed, 30), 20, True)) for seed in range(6)]
    assert all(isinstance(next(events), PrefillProgress) for events in running), "no request waits for a row"
    assert (engine._pool.rows, engine._pool.length) == (9, 1024)
    assert [get_token_ids(events) for events in running] == expected


def test_a_prefill_is_interrupted_within_its_step(tiny_onnx: Path) -> None:
    """The step is made to run again and again until it is interrupted."""
    engine = open_batched(tiny_onnx)
    scheduler, compute, started = Scheduler(engine, BUDGET), engine._compute, threading.Event()

    def compute_endlessly(
        rows: Any, new: Any, least: int, run_options: Any, wants_logits: bool = True
    ) -> Generator[None, None, Logits]:
        while True:
            logits = yield from compute(rows, new, least, run_options, wants_logits)
            if len(rows[0].tokens) < 64:
                return logits
            started.set()

    engine._compute = compute_endlessly  # type: ignore[method-assign]
    request = make_request(random_ids(1, 500), 5)
    events = scheduler.generate(request)
    assert [next(events), next(events)] == [PrefillProgress(0), PrefillProgress(64)]
    remaining: list[Any] = []
    thread = threading.Thread(target=lambda: remaining.extend(events))
    thread.start()
    assert started.wait(30)
    scheduler.cancel(request)
    thread.join(30)
    assert not thread.is_alive()
    assert remaining == []
    engine._compute = compute  # type: ignore[method-assign]
    again = scheduler.generate(make_request(random_ids(1, 500), 5))
    assert next(again) == PrefillProgress(64), "the chunk before the interrupted one is kept"
    answer = get_token_ids(again)
    clear_cache(scheduler)
    assert get_token_ids(scheduler.generate(make_request(random_ids(1, 500), 5))) == answer


def test_a_request_cancelled_after_its_first_event_computes_nothing(tiny_onnx: Path) -> None:
    engine = open_batched(tiny_onnx)
    scheduler, request = Scheduler(engine, BUDGET), make_request(random_ids(1, 300), 5)
    events = scheduler.generate(request)
    assert next(events) == PrefillProgress(0)
    scheduler.cancel(request)
    assert list(events) == []
    assert scheduler.stats().used_bytes == 0


def test_cancelling_twice_leaves_the_rows_new_owner_alone(tiny_onnx: Path) -> None:
    scheduler = Scheduler(open_batched(tiny_onnx), BUDGET)
    first = make_request(random_ids(1, 300), 5)
    events = scheduler.generate(first)
    next(events)
    scheduler.cancel(first)
    assert next(events, None) is None
    second = scheduler.generate(make_request(random_ids(1, 300), 5))
    next(second)
    scheduler.cancel(first)
    assert len(get_token_ids(second)) == 5


def test_an_answer_is_cancelled_by_the_id_of_its_chunks(tiny_onnx: Path) -> None:
    wrapper = load_wrapper(tiny_onnx)
    chunks = wrapper.predict_stream(None, {"prompt": "<|user|>\n" + "the sea " * 200}, {"max_tokens": 500})
    first = next(chunks)
    wrapper.cancel(first["id"])
    assert list(chunks) == []
    wrapper.cancel(first["id"])
    assert wrapper._scheduler._running == []


@contextmanager
def fail_steps(engine: BatchedEngine, is_culprit: Any) -> Iterator[list[int]]:
    """Make each step that includes a culprit's row fail; yield the batch sizes of all steps."""
    step, sizes = engine.step, list[int]()

    def step_or_fail(rows: Sequence[Any], tokens: Sequence[int], exact: bool) -> Sequence[Logits]:
        sizes.append(len(rows))
        if any(map(is_culprit, rows)):
            raise RuntimeError("out of memory")
        return step(rows, tokens, exact)

    engine.step = step_or_fail  # type: ignore[method-assign]
    yield sizes
    engine.step = step  # type: ignore[method-assign]


def test_a_failing_step_ends_only_the_answer_that_causes_the_failure(tiny_onnx: Path) -> None:
    engine = open_batched(tiny_onnx)
    scheduler = Scheduler(engine, BUDGET)
    prompts = [random_ids(seed, 40) for seed in range(4)]
    expected = [get_token_ids(scheduler.generate(make_request(prompt, 12))) for prompt in prompts]
    clear_cache(scheduler)
    running = [scheduler.generate(make_request(prompt, 12)) for prompt in prompts]
    generated: list[list[int]] = [[] for _ in prompts]
    errors: dict[int, Exception] = {}
    with fail_steps(engine, lambda row: row.tokens[:40] == prompts[2] and len(row.tokens) > 45) as sizes:
        active = list(range(4))
        while active:
            for number in list(active):
                try:
                    event = next(running[number], None)
                except RuntimeError as error:
                    errors[number], event = error, None
                if event is None:
                    active.remove(number)
                elif isinstance(event, Token):
                    generated[number].append(event.id)
    assert list(errors) == [2]
    assert [generated[number] for number in (0, 1, 3)] == [expected[number] for number in (0, 1, 3)]
    assert generated[2] == expected[2][: len(generated[2])]
    assert max(sizes) == 4
    assert len(get_token_ids(scheduler.generate(make_request(prompts[2], 12)))) == 12, "its row is free again"


def test_no_row_leaks_when_concurrent_requests_end_in_different_ways(tiny_onnx: Path) -> None:
    """Requests of six threads complete, are closed, are cancelled by another thread, or fail."""
    budget = 2_000_000
    engine = open_batched(tiny_onnx, budget)
    scheduler = Scheduler(engine, budget)
    kinds: list[str] = []

    def run(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(15):
            kind = str(rng.choice(["ends", "closed", "cancelled", "fails"]))
            request = make_request(
                random_ids(int(rng.integers(4)), int(rng.integers(1, 400))), int(rng.integers(1, 40))
            )
            timer = threading.Timer(float(rng.random()) / 50, scheduler.cancel, [request])
            if kind == "fails":
                request.prompt[-1] = request.to_prefill[-1] = 10**6
            if kind == "cancelled":
                timer.start()
            events = scheduler.generate(request)
            with contextlib.suppress(RuntimeError):
                for number, _event in enumerate(events):
                    if kind == "closed" and number == 3:
                        break
            events.close()
            timer.cancel()
            kinds.append(kind)

    threads = [threading.Thread(target=run, args=[seed]) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(kinds) == 90, "no thread hangs or ends early"
    assert scheduler._running == scheduler._waiting == []
    assert scheduler.stats().used_bytes <= budget
    clear_cache(scheduler)
    assert not any(engine._rows)


def test_a_token_id_outside_the_vocabulary_fails_only_its_own_request(tiny_onnx: Path) -> None:
    scheduler = Scheduler(open_batched(tiny_onnx), BUDGET)
    other = scheduler.generate(make_request(random_ids(1, 30), 20))
    next(other)
    with pytest.raises(Exception, match="indices element out of data bounds"):
        list(scheduler.generate(make_request([10**6] * 5, 5)))
    assert len(get_token_ids(other)) == 20


def test_an_answer_that_crosses_the_rope_scaling_switch_continues_as_if_prefilled(
    tiny_models: TinyModels,
) -> None:
    scheduler = Scheduler(open_batched(tiny_models.onnx(LONG_CONTEXT), 20 * BUDGET), 20 * BUDGET)
    prompt = random_ids(3, SHORT_ROPE_LENGTH - 4)
    answer = get_token_ids(scheduler.generate(make_request(prompt, 12)))
    assert len(answer) == 12
    clear_cache(scheduler)
    # The fifth token of the answer is the first one computed past the switch.
    assert get_token_ids(scheduler.generate(make_request([*prompt, *answer[:5]], 7))) == answer[5:]


def test_a_pool_maps_at_most_four_times_the_budget() -> None:
    pool = KVPool(4, 2, 16, 131_072, budget=50_000_000)
    assert pool.rows * pool.length * pool.token_bytes <= 200_000_000
    assert pool.rows >= 8


def test_other_threads_run_while_a_step_is_computed(tiny_onnx: Path) -> None:
    engine = open_batched(tiny_onnx)
    row = engine.allocate(3000)
    assert row
    rounds, ended = 0, threading.Event()

    def count() -> None:
        nonlocal rounds
        while not ended.is_set():
            rounds += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    before = rounds
    engine.prefill(row, random_ids(1, 2500))  # one step
    during = rounds - before
    ended.set()
    thread.join()
    assert during > 100
