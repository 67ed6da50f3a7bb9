"""The ONNX wrapper's slots: prefix reuse and batched decoding give the same answers as one request at a time."""

import itertools
import random
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.phi3_onnx import Options, Phi3Onnx
from models.phi3_onnx_engine import PrefillProgress, QueuePosition, Request, Scheduler, Token
from tests.conftest import Weights

GREEDY = Options(max_tokens=12, temperature=0.0)
SAMPLED = Options(max_tokens=12, temperature=0.2)
SEEDED = Options(max_tokens=12, temperature=1.0, seed=3)


class LoadWrapper(Protocol):
    """Loads a folder with one of the engines."""

    def __call__(self, folder: Path, cache_mb: int) -> Phi3Onnx: ...


@pytest.fixture(scope="module", params=["genai", "batched"])
def load_wrapper(request: pytest.FixtureRequest) -> LoadWrapper:
    """Return a loader for each engine in turn."""

    def load(folder: Path, cache_mb: int) -> Phi3Onnx:
        wrapper = Phi3Onnx()
        wrapper.load(folder, threads=1, cache_mb=cache_mb, choice=request.param)
        assert wrapper._scheduler._engine.name == request.param
        return wrapper

    return load


@pytest.fixture(scope="module")
def wrapper(tiny_onnx: Path, load_wrapper: LoadWrapper) -> Phi3Onnx:
    """Load the tiny model with memory for several chats, at 1 kB per token."""
    return load_wrapper(tiny_onnx, 6)


@pytest.fixture(scope="module")
def reference_wrapper(tiny_onnx: Path, load_wrapper: LoadWrapper) -> Phi3Onnx:
    return load_wrapper(tiny_onnx, 6)


@pytest.fixture(scope="module")
def reserving_wrapper(tiny_onnx: Path) -> Phi3Onnx:
    """Load the model in the engine whose rows reserve memory. Not shared, since its test checks which slots exist."""
    wrapper = Phi3Onnx()
    wrapper.load(tiny_onnx, threads=1, cache_mb=6)
    return wrapper


def generate(wrapper: Phi3Onnx, prompt: list[int], options: Options) -> tuple[str, Any]:
    """Return the text, and the last step, which has the usage."""
    steps = list(wrapper._answer(wrapper._build_request(prompt, options), options.stop))
    return "".join(step.text for step in steps), steps[-1]


def get_slots(wrapper: Phi3Onnx) -> list[Any]:
    return wrapper._scheduler._slots._slots


def clear_cache(wrapper: Phi3Onnx) -> None:
    for slot in list(get_slots(wrapper)):
        wrapper._scheduler._slots.discard(slot)


def generate_without_reuse(wrapper: Phi3Onnx, prompt: list[int], options: Options) -> str:
    clear_cache(wrapper)
    text, last = generate(wrapper, prompt, options)
    assert last.cached_tokens == 0
    return text


_ids = st.integers(10, 200)
_moves = st.tuples(
    st.sampled_from(["follow up", "retry", "edit", "branch", "new"]),
    st.lists(_ids, min_size=1, max_size=90),
    st.integers(0, 10**6),
)


@settings(deadline=None, max_examples=25)
@given(st.lists(_moves, min_size=2, max_size=8))
def test_answers_with_prefix_reuse_equal_those_without(
    wrapper: Phi3Onnx, reference_wrapper: Phi3Onnx, moves: list[tuple[str, list[int], int]]
) -> None:
    prompts: list[list[int]] = [[1, 2, 3]]
    for move, new_ids, number in moves:
        last, earlier = prompts[-1], prompts[number % len(prompts)]
        prompt = {
            "follow up": last + new_ids,
            "retry": last,
            "edit": last[: number % (len(last) + 1)] + new_ids,
            "branch": earlier + new_ids,
            "new": new_ids,
        }[move]
        prompts.append(prompt)
        for options in (GREEDY, SEEDED):
            assert generate(wrapper, prompt, options)[0] == generate_without_reuse(reference_wrapper, prompt, options)


def test_the_demo_model_answers_the_same_with_and_without_prefix_reuse(
    weights: Weights, load_wrapper: LoadWrapper
) -> None:
    """It is quantised, so a token computed alone and one computed in a batch differ by more than rounding."""
    reusing, plain = load_wrapper(weights.onnx, 0), load_wrapper(weights.onnx, 0)
    start, turn = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n", "{}<|im_end|>\n"
    chat = ""
    for question in ("Tell me of the sea.", "And of ships?", "Which is the largest?"):
        prompt = reusing.encode(chat + start.format(question))
        for options in (Options(max_tokens=16, temperature=0.0), Options(max_tokens=16, temperature=1.0, seed=7)):
            text, last = generate(reusing, prompt, options)
            assert text == generate_without_reuse(plain, prompt, options)
        assert last.cached_tokens == len(prompt) - 2
        chat += start.format(question) + turn.format(text)


def test_a_follow_up_prefills_only_new_tokens(wrapper: Phi3Onnx) -> None:
    prompt = wrapper.encode("<|user|>\nWhat is the capital of France?<|end|>\n<|assistant|>\n" * 8)
    events = list(start_generating(wrapper._scheduler, prompt, 10))
    answer = [event.id for event in events if isinstance(event, Token)]
    before = wrapper._scheduler.stats()

    follow_up = [*prompt, *answer, *prompt[:20]]
    _, last = generate(wrapper, follow_up, SAMPLED)
    # The keys and values of the last generated token were never computed.
    assert last.cached_tokens == len(prompt) + len(answer) - 1
    _, last = generate(wrapper, follow_up, SAMPLED)
    assert last.cached_tokens == len(follow_up) - 2, "at least two tokens are prefilled: one uses another kernel"
    _, last = generate(wrapper, follow_up, GREEDY)
    assert last.cached_tokens == len(prompt), "if the answer must be reproducible, earlier answers are prefilled again"
    after = wrapper._scheduler.stats()
    assert (after.hits - before.hits, after.misses - before.misses) == (3, 0)


def test_usage_and_cached_tokens_have_openais_format(wrapper: Phi3Onnx) -> None:
    prompt = {"prompt": "<|user|>\nTell me of the sea, and of ships.<|end|>\n<|assistant|>\n"}
    *_, first = wrapper.predict_stream(None, prompt, {"max_tokens": 3, "temperature": 0.0})
    *_, second = wrapper.predict_stream(None, prompt, {"max_tokens": 3, "temperature": 0.0})
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached == second["usage"]["prompt_tokens"] - 2
    assert second["prompt_cache"]["hits"] == first["prompt_cache"]["hits"] + 1
    assert second["prompt_cache"]["used_bytes"] <= second["prompt_cache"]["budget_bytes"] == 6_000_000


def test_slots_stay_within_the_budget_and_the_least_recently_used_is_evicted(reserving_wrapper: Phi3Onnx) -> None:
    wrapper = reserving_wrapper  # four slots of 1,464 tokens
    prompts = [[10 + n] * 60 for n in range(7)]
    for prompt in prompts:
        generate(wrapper, prompt, GREEDY)
        assert wrapper._scheduler.stats().used_bytes <= 6_000_000
    assert wrapper._scheduler.stats().slots == 4
    assert generate(wrapper, prompts[-1], GREEDY)[1].cached_tokens == 58
    assert generate(wrapper, prompts[0], GREEDY)[1].cached_tokens == 0


def test_a_slot_is_preallocated_for_the_next_chat_while_idle_and_within_the_budget(tiny_onnx: Path) -> None:
    wrapper = Phi3Onnx()
    wrapper.load(tiny_onnx, threads=1, cache_mb=6)  # room for four
    slots = get_slots(wrapper)
    wrapper.prepare()
    assert len(slots) == 1, "the slot used for the warm-up is empty and is kept"
    assert wrapper._scheduler.stats().slots == 0
    for number in range(6):
        running = start_generating(wrapper._scheduler, [10 + number] * 60, 5)
        assert [next(running).count, next(running).count] == [0, 60]
        wrapper.prepare()
        assert len(slots) == min(number + 1, 4), "none is allocated while a request runs"
        running.close()
        wrapper.prepare()
        assert len(slots) == min(number + 2, 4)
        generate(wrapper, [100 + number] * 60, GREEDY)
        assert len(slots) == min(number + 2, 4), "the new chat uses the preallocated slot"
        wrapper._scheduler._slots.discard(next(slot for slot in slots if slot.row.tokens[:1] == [100 + number]))


def test_a_short_common_prefix_does_not_overwrite_the_slot_of_a_long_chat(wrapper: Phi3Onnx) -> None:
    system, rng = [5] * 20, random.Random(0)
    long = system + [rng.randrange(10, 200) for _ in range(400)]
    generate(wrapper, long, GREEDY)
    generate(wrapper, [*system, 7, 8, 9], GREEDY)
    assert generate(wrapper, long, GREEDY)[1].cached_tokens == len(long) - 2


def test_one_answer_is_possible_with_any_budget(
    tiny_onnx: Path, reference_wrapper: Phi3Onnx, load_wrapper: LoadWrapper
) -> None:
    wrapper = load_wrapper(tiny_onnx, 1)
    prompt = [7] * 3000
    assert generate(wrapper, prompt, GREEDY)[0] == generate_without_reuse(reference_wrapper, prompt, GREEDY)


def generate_concurrently(wrapper: Phi3Onnx, prompts: list[list[int]], options: Options) -> dict[int, str]:
    texts: dict[int, str] = {}
    gate = threading.Barrier(len(prompts))

    def run(number: int) -> None:
        gate.wait(30)
        texts[number] = generate(wrapper, prompts[number], options)[0]

    threads = [threading.Thread(target=run, args=[number]) for number in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return texts


@pytest.mark.parametrize("cache_mb", [1, 6, 60])
def test_concurrent_answers_equal_sequential_ones(
    tiny_onnx: Path, reference_wrapper: Phi3Onnx, load_wrapper: LoadWrapper, cache_mb: int
) -> None:
    rng = random.Random(cache_mb)
    prompts = [[rng.randrange(10, 200) for _ in range(rng.randrange(1, 300))] for _ in range(8)]
    for options in (Options(max_tokens=40, temperature=0.0), Options(max_tokens=40, temperature=1.0, seed=5)):
        expected = {
            number: generate_without_reuse(reference_wrapper, prompt, options) for number, prompt in enumerate(prompts)
        }
        assert generate_concurrently(load_wrapper(tiny_onnx, cache_mb), prompts, options) == expected


def start_generating(scheduler: Scheduler, prompt: list[int], tokens: int) -> Generator[Any, None, None]:
    request = Request(prompt, tokens, lambda logits: int(logits.argmax()), frozenset(), False)
    return scheduler.generate(request)


def test_a_request_waiting_for_memory_gets_its_queue_position_and_is_served_when_memory_is_freed(
    tiny_onnx: Path, load_wrapper: LoadWrapper
) -> None:
    scheduler = load_wrapper(tiny_onnx, 1)._scheduler  # 976 tokens: one answer of this length at a time
    first = start_generating(scheduler, [7] * 600, 200)
    assert isinstance(next(first), PrefillProgress)
    positions: list[int] = []
    served = threading.Event()

    def wait() -> None:
        for event in start_generating(scheduler, [8] * 600, 5):
            if isinstance(event, QueuePosition):
                positions.append(event.ahead)
                has_position.set()
            else:
                served.set()

    has_position = threading.Event()
    waiting = threading.Thread(target=wait)
    waiting.start()
    assert has_position.wait(30)
    assert not served.is_set()
    next(first)
    first.close()
    waiting.join(60)
    assert served.is_set()
    assert positions == [1]


def test_a_request_that_leaves_the_queue_is_skipped(tiny_onnx: Path, load_wrapper: LoadWrapper) -> None:
    scheduler = load_wrapper(tiny_onnx, 1)._scheduler
    first = start_generating(scheduler, [7] * 600, 200)
    next(first)
    impatient = start_generating(scheduler, [8] * 600, 200)
    assert next(impatient) == QueuePosition(1)
    patient = start_generating(scheduler, [9] * 600, 3)
    assert next(patient) == QueuePosition(2)
    impatient.close()
    assert next(patient) == QueuePosition(1)
    first.close()
    assert sum(isinstance(event, Token) for event in patient) == 3


def test_a_long_prefill_is_interleaved_with_the_decoding_of_other_answers(wrapper: Phi3Onnx) -> None:
    decoding = start_generating(wrapper._scheduler, [11] * 20, 200)
    while not isinstance(next(decoding), Token):
        pass
    prefilling = start_generating(wrapper._scheduler, [12] * 500, 5)
    progress = [next(prefilling)]
    while isinstance(event := next(prefilling), PrefillProgress):
        progress.append(event)
        assert isinstance(next(decoding), Token), "a chunk of the prefill and a decode step alternate"
    sizes = {after.count - before.count for before, after in itertools.pairwise(progress)}
    assert max(sizes) <= wrapper._scheduler._engine.shared_chunk + 1, "a single last token joins the chunk before it"
    decoding.close()
    prefilling.close()


def test_a_slow_consumer_does_not_block_other_answers(wrapper: Phi3Onnx) -> None:
    paused = start_generating(wrapper._scheduler, [13] * 20, 300)
    while not isinstance(next(paused), Token):
        pass
    assert sum(isinstance(event, Token) for event in start_generating(wrapper._scheduler, [14] * 20, 50)) == 50
    (run,) = wrapper._scheduler._running
    assert len(run.generated) < 20, "decoding does not run far ahead of the consumer"
    assert sum(isinstance(event, Token) for event in paused) == 299
    assert wrapper._scheduler._running == []


def test_an_engine_error_ends_only_its_own_answer(wrapper: Phi3Onnx) -> None:
    def fail(_: Any) -> int:
        raise RuntimeError("out of memory")

    other = start_generating(wrapper._scheduler, [15] * 20, 30)
    next(other)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(wrapper._scheduler.generate(Request([16] * 20, 5, fail, frozenset(), False)))
    assert sum(isinstance(event, Token) for event in other) == 30
    assert sum(isinstance(event, Token) for event in start_generating(wrapper._scheduler, [16] * 20, 5)) == 5


def test_the_slot_of_a_stopped_answer_keeps_its_prefilled_tokens(wrapper: Phi3Onnx) -> None:
    prompt = [17, 18] * 200
    stopped = start_generating(wrapper._scheduler, prompt, 5)
    assert [next(stopped), next(stopped), next(stopped)] == [
        PrefillProgress(0),
        PrefillProgress(64),
        PrefillProgress(128),
    ]
    stopped.close()
    assert next(start_generating(wrapper._scheduler, prompt, 5)) == PrefillProgress(128)
