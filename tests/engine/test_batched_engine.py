"""The batched engine: same answers in any company, an end within a step, and memory in use alone."""

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
from tests.engine.engines import BUDGET, load, numbers, open_batched, request, tokens_of
from tests.support.tiny_models import LONG_CONTEXT, QUANTISED, TinyModels, Variant


@pytest.mark.parametrize(
    "variant", [Variant(), LONG_CONTEXT, *(Variant(precision=name) for name in QUANTISED)], ids=str
)
def test_logits_are_those_of_the_other_engine_bit_for_bit(tiny_models: TinyModels, variant: Variant) -> None:
    """In four rows of different lengths, the last past the sliding window."""
    folder = tiny_models.onnx(variant)
    engines: list[Engine] = [GenaiEngine(OnnxFolder(folder), 1), open_batched(folder)]
    prompts = [numbers(length, length) for length in (2, 70, 33, 2200)]
    rows = [[engine.allocate(2300) for _ in prompts] for engine in engines]
    last = []
    for number, prompt in enumerate(prompts):
        for at in range(0, len(prompt), 64):
            genai, batched = (
                engine.prefill(of_engine[number], prompt[at : at + 64])  # type: ignore[arg-type]
                for engine, of_engine in zip(engines, rows, strict=True)
            )
            np.testing.assert_array_equal(genai, batched)
        last.append(int(batched.argmax()))
    for _ in range(12):
        genai, batched = (
            np.stack(engine.step(of_engine, last, exact=True))  # type: ignore[arg-type]
            for engine, of_engine in zip(engines, rows, strict=True)
        )
        if variant.precision == "fp32":
            np.testing.assert_array_equal(genai, batched)
        else:  # the other engine computes a token alone, which takes another kernel on some processors
            np.testing.assert_allclose(genai, batched, atol=1.0)
        last = batched.argmax(-1).tolist()


def test_a_token_that_is_computed_with_a_dummy_is_the_same(tiny_models: TinyModels) -> None:
    """As on processors that have another kernel for one token than for two."""
    engine = open_batched(tiny_models.onnx(Variant(precision="int8")))
    engine._exact_tokens = 2
    rows = [engine.allocate(100) for _ in range(3)]
    assert all(rows)
    for row in rows:
        engine.prefill(row, numbers(1, 40))  # type: ignore[arg-type]
    (alone,) = engine.step([rows[0]], [7], exact=True)  # type: ignore[list-item]
    together = engine.step([rows[2], rows[1]], [7, 7], exact=True)  # type: ignore[list-item]
    for logits in together:
        np.testing.assert_array_equal(logits, alone)


@pytest.fixture(scope="module", params=QUANTISED)
def engines(request: pytest.FixtureRequest, tiny_models: TinyModels) -> tuple[BatchedEngine, BatchedEngine]:
    """Two of the same quantised model."""
    folder = tiny_models.onnx(Variant(precision=request.param))
    return open_batched(folder), open_batched(folder)


_asked = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(1, 150), st.integers(1, 25), st.booleans(), st.integers(0, 40)),
    min_size=2,
    max_size=7,
)
"""Of each request: a seed, the length of its prompt, the tokens it wants, whether it shares the others' beginning, and after how
many steps of the one before it comes."""


@hypothesis_settings(deadline=None, max_examples=25)
@given(_asked, st.lists(st.integers(0, 30), min_size=7, max_size=7))
def test_repeatable_answers_are_the_same_alone_and_in_any_company(
    engines: tuple[BatchedEngine, BatchedEngine], asked: list[tuple[int, int, int, bool, int]], leaves: list[int]
) -> None:
    """Every third request leaves before its end; the others get what each gets from an engine that nobody else uses."""
    crowded, alone = (Scheduler(engine, BUDGET) for engine in engines)
    prompts = [numbers(1, 90)[: seed % 90] * shares + numbers(seed, length) for seed, length, _, shares, _ in asked]
    wanted = [tokens for _, _, tokens, _, _ in asked]
    running = [crowded.generate(request(prompt, count, True)) for prompt, count in zip(prompts, wanted, strict=True)]
    given_: list[list[int]] = [[] for _ in asked]
    pending = [(sum(wait for *_, wait in asked[:number]), number) for number in range(len(asked))]
    active: list[int] = []
    step = 0
    while pending or active:
        active += [number for at, number in pending if at <= step or not active]
        pending = [one for one in pending if one[1] not in active and one[0] > step]
        for number in list(active):
            event = next(running[number], None)
            if isinstance(event, Token):
                given_[number].append(event.id)
            if event is None or (number % 3 == 2 and len(given_[number]) > leaves[number]):
                running[number].close()
                active.remove(number)
        step += 1
    for number, prompt in enumerate(prompts):
        forget(alone)
        expected = tokens_of(alone.generate(request(prompt, wanted[number], True)))
        assert given_[number] == expected[: len(given_[number])]
        assert number % 3 == 2 or len(given_[number]) == wanted[number]
    for engine, scheduler in zip(engines, (crowded, alone), strict=True):
        forget(scheduler)
        assert not any(engine._rows), "no row leaks"


def forget(scheduler: Scheduler) -> None:
    for slot in list(scheduler._slots._slots):
        assert not slot.row.reserved
        scheduler._slots.discard(slot)


def test_a_seeded_answer_is_the_same_alone_and_in_company(tiny_models: TinyModels) -> None:
    wrapper = load(tiny_models.onnx(Variant(precision="int4")))
    options = Options(max_tokens=30, temperature=1.0, seed=7, presence_penalty=0.5, repetition_penalty=1.1)

    def answer() -> str:
        asked = wrapper._build_request(numbers(5, 80), options)
        return "".join(update.text for update in wrapper._answer(asked, ()))

    expected = answer()
    others = [wrapper._scheduler.generate(request(numbers(seed, 30), 200)) for seed in range(3)]
    for other in others:
        while not isinstance(next(other), Token):
            pass
    assert answer() == expected
    assert all(tokens_of(other) for other in others)


def test_the_prefix_of_a_running_answer_is_copied(tiny_onnx: Path) -> None:
    scheduler = Scheduler(open_batched(tiny_onnx), BUDGET)
    system = numbers(1, 200)
    first = scheduler.generate(request([*system, 20, 21], 50))
    while not isinstance(next(first), Token):
        pass
    second = scheduler.generate(request([*system, 30, 31, 32], 20))
    assert next(second) == PrefillProgress(200)
    answer, rest = tokens_of(second), tokens_of(first)
    assert len(rest) == 49
    forget(scheduler)
    assert tokens_of(scheduler.generate(request([*system, 30, 31, 32], 20))) == answer


def test_memory_is_counted_by_tokens_in_use_and_given_back(tiny_onnx: Path) -> None:
    engine = open_batched(tiny_onnx)
    scheduler = Scheduler(engine, BUDGET)
    list(scheduler.generate(request(numbers(1, 500), 10)))
    assert scheduler.stats().used_bytes == 509 * engine.token_bytes, "the last token was never computed"
    (slot,) = scheduler._slots._slots
    keys = engine._pool.tensors[0][engine._get_pooled(slot.row).index, 0]
    assert keys[:500].any(-1).all()

    list(scheduler.generate(request([*numbers(1, 400), 20, 21], 1)))
    assert scheduler.stats().used_bytes == 402 * engine.token_bytes
    if sys.platform == "linux":  # elsewhere the system may wait until it needs the memory
        assert not keys[450:].any(), "pages that were given back are read as zeros"
    scheduler._slots.discard(slot)
    if sys.platform == "linux":
        assert not keys[:450].any()


def test_a_longer_chat_makes_all_rows_longer_and_keeps_what_is_in_them(tiny_onnx: Path) -> None:
    engine = open_batched(tiny_onnx, budget=2_400_000)  # 2,343 tokens, four times which are mapped
    assert (engine._pool.rows, engine._pool.length) == (9, 1024)
    scheduler = Scheduler(engine, 2_400_000)
    short = request(numbers(1, 100), 20)
    running = scheduler.generate(short)
    while not isinstance(next(running), Token):
        pass
    long = scheduler.generate(request(numbers(2, 2000), 5))
    assert next(long) == PrefillProgress(0)
    assert (engine._pool.rows, engine._pool.length) == (4, 2048)
    rest = tokens_of(running)
    assert len(tokens_of(long)) == 5
    forget(scheduler)
    assert tokens_of(scheduler.generate(request(numbers(1, 100), 20)))[1:] == rest


def test_rows_become_shorter_and_more_again_once_nobody_needs_long_ones(tiny_onnx: Path) -> None:
    engine = open_batched(tiny_onnx, budget=2_400_000)
    scheduler = Scheduler(engine, 2_400_000)
    expected = [tokens_of(scheduler.generate(request(numbers(seed, 30), 20, True))) for seed in range(6)]
    list(scheduler.generate(request(numbers(9, 2000), 5)))
    assert (engine._pool.rows, engine._pool.length) == (4, 2048)
    running = [scheduler.generate(request(numbers(seed, 30), 20, True)) for seed in range(6)]
    assert all(isinstance(next(events), PrefillProgress) for events in running), "nobody waits for a row"
    assert (engine._pool.rows, engine._pool.length) == (9, 1024)
    assert [tokens_of(events) for events in running] == expected


def test_a_prefill_is_cut_off_within_its_step(tiny_onnx: Path) -> None:
    """The step is made as long as it takes to be interrupted: it runs again and again until it is."""
    engine = open_batched(tiny_onnx)
    scheduler, compute, began = Scheduler(engine, BUDGET), engine._compute, threading.Event()

    def endless(
        rows: Any, new: Any, least: int, run_options: Any, wants_logits: bool = True
    ) -> Generator[None, None, Logits]:
        while True:
            logits = yield from compute(rows, new, least, run_options, wants_logits)
            if len(rows[0].tokens) < 64:
                return logits
            began.set()

    engine._compute = endless  # type: ignore[method-assign]
    asked = request(numbers(1, 500), 5)
    events = scheduler.generate(asked)
    assert [next(events), next(events)] == [PrefillProgress(0), PrefillProgress(64)]
    left: list[Any] = []
    thread = threading.Thread(target=lambda: left.extend(events))
    thread.start()
    assert began.wait(30)
    scheduler.cancel(asked)
    thread.join(30)
    assert not thread.is_alive()
    assert left == []
    engine._compute = compute  # type: ignore[method-assign]
    again = scheduler.generate(request(numbers(1, 500), 5))
    assert next(again) == PrefillProgress(64), "what was computed before stays"
    answer = tokens_of(again)
    forget(scheduler)
    assert tokens_of(scheduler.generate(request(numbers(1, 500), 5))) == answer


def test_a_request_that_is_cancelled_after_its_first_event_computes_nothing(tiny_onnx: Path) -> None:
    engine = open_batched(tiny_onnx)
    scheduler, asked = Scheduler(engine, BUDGET), request(numbers(1, 300), 5)
    events = scheduler.generate(asked)
    assert next(events) == PrefillProgress(0)
    scheduler.cancel(asked)
    assert list(events) == []
    assert scheduler.stats().used_bytes == 0


def test_cancelling_twice_does_not_touch_who_has_the_row_now(tiny_onnx: Path) -> None:
    scheduler = Scheduler(open_batched(tiny_onnx), BUDGET)
    first = request(numbers(1, 300), 5)
    events = scheduler.generate(first)
    next(events)
    scheduler.cancel(first)
    assert next(events, None) is None
    second = scheduler.generate(request(numbers(1, 300), 5))
    next(second)
    scheduler.cancel(first)
    assert len(tokens_of(second)) == 5


def test_an_answer_is_cancelled_by_the_id_of_its_chunks(tiny_onnx: Path) -> None:
    wrapper = load(tiny_onnx)
    chunks = wrapper.predict_stream(None, {"prompt": "<|user|>\n" + "the sea " * 200}, {"max_tokens": 500})
    first = next(chunks)
    wrapper.cancel(first["id"])
    assert list(chunks) == []
    wrapper.cancel(first["id"])
    assert wrapper._scheduler._running == []


@contextmanager
def failing(engine: BatchedEngine, is_culprit: Any) -> Iterator[list[int]]:
    """Let steps fail in which a culprit takes part; yields the sizes of all steps."""
    step, sizes = engine.step, list[int]()

    def checked(rows: Sequence[Any], tokens: Sequence[int], exact: bool) -> Sequence[Logits]:
        sizes.append(len(rows))
        if any(map(is_culprit, rows)):
            raise RuntimeError("out of memory")
        return step(rows, tokens, exact)

    engine.step = checked  # type: ignore[method-assign]
    yield sizes
    engine.step = step  # type: ignore[method-assign]


def test_a_failing_step_ends_only_the_answer_that_makes_it_fail(tiny_onnx: Path) -> None:
    engine = open_batched(tiny_onnx)
    scheduler = Scheduler(engine, BUDGET)
    prompts = [numbers(seed, 40) for seed in range(4)]
    expected = [tokens_of(scheduler.generate(request(prompt, 12))) for prompt in prompts]
    forget(scheduler)
    running = [scheduler.generate(request(prompt, 12)) for prompt in prompts]
    given_: list[list[int]] = [[] for _ in prompts]
    errors: dict[int, Exception] = {}
    with failing(engine, lambda row: row.tokens[:40] == prompts[2] and len(row.tokens) > 45) as sizes:
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
                    given_[number].append(event.id)
    assert list(errors) == [2]
    assert [given_[number] for number in (0, 1, 3)] == [expected[number] for number in (0, 1, 3)]
    assert given_[2] == expected[2][: len(given_[2])]
    assert max(sizes) == 4
    assert len(tokens_of(scheduler.generate(request(prompts[2], 12)))) == 12, "its row is free again"


def test_no_row_leaks_however_threads_come_leave_and_fail(tiny_onnx: Path) -> None:
    """Six threads; of their requests some are closed, some cancelled by another thread, and some fail."""
    budget = 2_000_000
    engine = open_batched(tiny_onnx, budget)
    scheduler = Scheduler(engine, budget)
    kinds: list[str] = []

    def run(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(15):
            kind = str(rng.choice(["ends", "closed", "cancelled", "fails"]))
            asked = request(numbers(int(rng.integers(4)), int(rng.integers(1, 400))), int(rng.integers(1, 40)))
            timer = threading.Timer(float(rng.random()) / 50, scheduler.cancel, [asked])
            if kind == "fails":
                asked.prompt[-1] = asked.to_prefill[-1] = 10**6
            if kind == "cancelled":
                timer.start()
            events = scheduler.generate(asked)
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
    forget(scheduler)
    assert not any(engine._rows)


def test_an_id_outside_the_vocabulary_fails_alone(tiny_onnx: Path) -> None:
    scheduler = Scheduler(open_batched(tiny_onnx), BUDGET)
    other = scheduler.generate(request(numbers(1, 30), 20))
    next(other)
    with pytest.raises(Exception, match="indices element out of data bounds"):
        list(scheduler.generate(request([10**6] * 5, 5)))
    assert len(tokens_of(other)) == 20


def test_an_answer_that_crosses_the_switch_of_rope_factors_goes_on_as_if_it_had_been_prefilled(
    tiny_models: TinyModels,
) -> None:
    scheduler = Scheduler(open_batched(tiny_models.onnx(LONG_CONTEXT), 20 * BUDGET), 20 * BUDGET)
    prompt = numbers(3, SHORT_ROPE_LENGTH - 4)
    answer = tokens_of(scheduler.generate(request(prompt, 12)))
    assert len(answer) == 12
    forget(scheduler)
    # The fifth token of the answer is the first that is computed past the switch.
    assert tokens_of(scheduler.generate(request([*prompt, *answer[:5]], 7))) == answer[5:]


def test_a_pool_takes_no_more_address_space_than_four_times_the_budget() -> None:
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
    engine.prefill(row, numbers(1, 2500))  # one step
    during = rounds - before
    ended.set()
    thread.join()
    assert during > 100
