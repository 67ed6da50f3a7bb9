"""The pipeline's KV cache: answers with slots equal those without, through pyfunc in the test's process."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mlflow
import pytest

from models import log_pipeline
from models.presets import Origin
from models.tracking import Store
from phi3_ui.chat.types import (
    AnswerEvent,
    CacheStats,
    CancelToken,
    ChatRequest,
    Completed,
    GenerationParams,
    Message,
    PrefillProgress,
    QueuePosition,
    Usage,
)
from phi3_ui.contracts.pipeline_chat import PipelineChatAdapter
from phi3_ui.runtime.generation_hook import HookedPipeline
from phi3_ui.runtime.pipeline_kv_cache import PREFILL_CHUNK
from phi3_ui.runtime.torch_threads import use_threads
from tests.conftest import Demo
from tests.support.build_cache import create_store
from tests.support.tiny_models import LONG_CONTEXT, TinyModels, TinyStore

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")

GREEDY = GenerationParams(12, 0.0)
WORDS = ["sea", "ship", "7", "é", "😀", "lamp\n", "storm,", "(x)"]
Load = Callable[[], Any]


class Chat:
    """A model behind the adapter that the app uses."""

    def __init__(self, model: Any, budget: int = 1 << 30) -> None:
        self.model = model
        self.adapter = PipelineChatAdapter(model, ())
        self.cache = self.adapter._pipeline._cache
        self.cache._budget = budget

    def collect_events(
        self, messages: tuple[Message, ...], params: GenerationParams = GREEDY, cancel: CancelToken | None = None
    ) -> list[AnswerEvent]:
        return list(self.adapter.answer(ChatRequest(messages, params), cancel or CancelToken()))

    def ask(self, messages: tuple[Message, ...], params: GenerationParams = GREEDY) -> Completed:
        events = self.collect_events(messages, params)
        assert isinstance(events[-1], Completed)
        assert events[-1].usage
        progress = [event for event in events if isinstance(event, PrefillProgress)]
        assert progress[0] == PrefillProgress(events[-1].usage.cached_tokens or 0, events[-1].usage.prompt_tokens)
        assert [event.processed for event in progress] == sorted({event.processed for event in progress})
        return events[-1]

    def count_cached(self, messages: tuple[Message, ...], params: GenerationParams = GREEDY) -> int:
        usage = self.ask(messages, params).usage
        assert usage
        assert usage.cached_tokens is not None
        return usage.cached_tokens


def open_without_slots(model: Any) -> Chat:
    chat = Chat(model)
    chat.cache.can_serve = lambda prompt: False  # type: ignore[method-assign]  # disables the cache
    return chat


def compare(chat: Chat, plain: Chat, seed: int, steps: int, words: int) -> int:
    """Hold the same random conversation with both, with questions of up to `words` words, and compare the answers.

    Return the number of prompt tokens that were cached.
    """
    rng = random.Random(seed)
    prompts: list[tuple[Message, ...]] = []
    answers: list[str] = []
    cached = 0

    def make_question() -> Message:
        return Message("user", " ".join(rng.choices(WORDS, k=rng.randint(1, words))))

    for _ in range(steps):
        move = (
            rng.choice(["follow up", "follow up", "follow up", "retry", "edit", "branch", "new"]) if prompts else "new"
        )
        parent = rng.randrange(len(prompts)) if move == "branch" else -1
        if move == "new":
            messages: tuple[Message, ...] = (Message("system", "Be brief."), make_question())
        elif move == "retry":
            messages = prompts[-1]
        elif move == "edit":
            messages = (*prompts[-1][:-1], make_question())
        else:
            messages = (*prompts[parent], Message("assistant", answers[parent]), make_question())
        ours, theirs = chat.ask(messages), plain.ask(messages)
        assert (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason), (move, len(prompts))
        assert ours.usage
        assert theirs.usage
        assert ours.usage.prompt_tokens == theirs.usage.prompt_tokens
        assert ours.usage.completion_tokens == theirs.usage.completion_tokens
        cached += ours.usage.cached_tokens or 0
        prompts.append(messages)
        answers.append(ours.text)
    return cached


@pytest.fixture(scope="module")
def load(tiny: TinyStore) -> Load:
    return lambda: tiny.load("chat")


@pytest.fixture(scope="module")
def load_long(tiny_models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Return a loader of a tiny Phi-3 with a longer context, which uses other RoPE factors beyond CONTEXT_LENGTH tokens."""
    home = tmp_path_factory.mktemp("long")
    store = Store(create_store(home), str(home / "artifacts"))
    origin = Origin(preset="", name="long", title="Long", source="tests/long", license="mit")
    checkpoint = tiny_models.checkpoint(LONG_CONTEXT)
    logged = log_pipeline.log(checkpoint, origin, store, lambda *_: None, measured=False, registering=False)

    def load() -> Any:
        mlflow.set_tracking_uri(store.tracking_uri)
        return mlflow.pyfunc.load_model(f"models:/{logged.model_id}")

    return load


@pytest.mark.parametrize("budget", [1 << 30, 400_000], ids=["roomy", "tight"])
@pytest.mark.parametrize("seed", [1, 2])
def test_answers_to_edited_regenerated_and_branched_chats_equal_those_without_slots(
    load: Load, seed: int, budget: int
) -> None:
    assert compare(Chat(load(), budget), open_without_slots(load()), seed, steps=30, words=60) > 1000


def test_answers_beyond_the_sliding_window_equal_those_without_slots(load: Load) -> None:
    # Within the budget all tokens are cached; beyond it only the sliding window, which cannot be truncated.
    for budget, cached in ((1 << 30, 10_000), (1_000_000, 1_000)):
        assert compare(Chat(load(), budget), open_without_slots(load()), 3, steps=14, words=500) > cached


def test_answers_with_long_rope_factors_equal_those_without_slots(load_long: Load) -> None:
    chat, plain = Chat(load_long()), open_without_slots(load_long())
    # With these seeds, one conversation grows past the limit; another crosses it by branching, is regenerated, and returns.
    for seed, steps in ((4, 7), (1, 6)):
        assert compare(chat, plain, seed, steps, words=1500) > 10_000


def test_answers_of_the_demo_model_equal_those_without_slots(demo: Demo) -> None:
    """Use only the first three layers: the architecture, tokenizer and template are real, and the test is much faster."""

    def load() -> Any:
        mlflow.set_tracking_uri(demo.settings.tracking_uri)
        loaded = mlflow.pyfunc.load_model(demo.entry("chat").uri)
        model = loaded.get_raw_model().model
        del model.model.layers[3:]
        model.config.num_hidden_layers = 3
        return loaded

    # This seed makes every kind of move once or twice.
    assert compare(Chat(load()), open_without_slots(load()), 6, steps=6, words=40) > 300


LONG = Message("user", " ".join(map(str, range(600))))


def test_regenerating_prefills_one_token_and_the_next_turn_only_new_ones(load: Load) -> None:
    chat = Chat(load())
    first = chat.ask((LONG,))
    assert first.usage
    assert first.usage.cached_tokens == 0
    assert chat.count_cached((LONG,)) == first.usage.prompt_tokens - 1
    follow_up = (LONG, Message("assistant", first.text), Message("user", "And?"))
    assert chat.count_cached(follow_up) >= first.usage.prompt_tokens


def test_a_new_conversation_does_not_evict_earlier_ones(load: Load) -> None:
    chat, other = Chat(load()), Message("user", "What is the sea?")
    length = chat.ask((LONG,)).usage.prompt_tokens  # type: ignore[union-attr]  # it is set
    assert chat.count_cached((other,)) < 10
    assert chat.count_cached((LONG,)) == length - 1


def test_the_least_recently_used_slot_is_evicted_first(load: Load) -> None:
    chat = Chat(load())
    prompts = [(Message("user", f"{letter} " * 300),) for letter in "abc"]
    lengths = [chat.ask(prompt).usage.prompt_tokens for prompt in prompts]  # type: ignore[union-attr]  # it is set
    slot_layers = [slot.cache.layers for slot in chat.cache._slots]
    chat.cache._budget = sum(layer.keys.nbytes + layer.values.nbytes for layers in slot_layers for layer in layers)
    assert chat.count_cached(prompts[0]) == lengths[0] - 1
    assert chat.count_cached((Message("user", "d " * 300),)) < 10
    assert chat.count_cached(prompts[0]) == lengths[0] - 1
    assert chat.count_cached(prompts[1]) < 10
    chat.cache._budget = 1
    assert chat.count_cached(prompts[1]) == lengths[1] - 1, "one slot is always kept"
    assert len(chat.cache._slots) == 1


def test_a_cancelled_prefill_gives_an_empty_answer_and_is_reused(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    chat, cancel = Chat(load()), CancelToken()
    events = chat.adapter.answer(ChatRequest((LONG,), GREEDY), cancel)
    total = chat.ask((LONG,)).usage.prompt_tokens  # type: ignore[union-attr]  # it is set
    chat.cache._slots.clear()
    prefill = chat.cache.prefill

    def prefill_and_cancel(*arguments: Any) -> None:
        prefill(*arguments)
        if arguments[-1] >= 3 * PREFILL_CHUNK:
            cancel.set()

    monkeypatch.setattr(chat.cache, "prefill", prefill_and_cancel)
    *progress, stats, completed = events
    assert isinstance(stats, CacheStats)
    assert progress == [PrefillProgress(PREFILL_CHUNK * chunk, total) for chunk in range(4)]
    assert isinstance(completed, Completed)
    assert (completed.text, completed.finish_reason) == ("", "cancelled")
    assert completed.usage == Usage(total, 0, 0)
    assert completed.timings.time_to_first_token is None
    assert chat.count_cached((LONG,)) == 3 * PREFILL_CHUNK


def test_an_error_during_prefill_ends_only_that_answer(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    chat, plain = Chat(load()), open_without_slots(load())
    prefill = chat.cache.prefill

    def fail(*arguments: Any) -> None:
        prefill(*arguments)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(chat.cache, "prefill", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        chat.ask((LONG,))
    chat.cache.prefill = prefill  # type: ignore[method-assign]  # restored
    again = chat.ask((LONG,))
    assert again.text == plain.ask((LONG,)).text
    assert again.usage
    assert again.usage.cached_tokens == 0


def test_answers_are_computed_one_by_one_and_waiting_requests_get_their_queue_position(load: Load) -> None:
    chat, cancel = Chat(load()), CancelToken()
    first = chat.adapter.answer(ChatRequest((LONG,), GREEDY), CancelToken())
    assert isinstance(next(first), PrefillProgress)
    second = chat.adapter.answer(ChatRequest((LONG,), GREEDY), cancel)
    third = chat.adapter.answer(ChatRequest((LONG,), GREEDY), CancelToken())
    assert next(second) == QueuePosition(1)
    assert next(third) == QueuePosition(2)
    cancel.set()
    (cancelled,) = second
    assert isinstance(cancelled, Completed)
    assert cancelled == replace(cancelled, text="", usage=None, finish_reason="cancelled")
    assert next(third) == QueuePosition(1)
    *_, answer = first
    assert isinstance(answer, Completed)
    *_, third_answer = third
    assert isinstance(third_answer, Completed)
    assert third_answer.text == answer.text


def test_a_seed_repeats_bit_for_bit_whatever_is_cached(load: Load) -> None:
    """In bfloat16, where tokens decoded one by one and prefilled in chunks differ by more than rounding."""
    import torch

    seeded = GenerationParams(40, 1.5, seed=7)
    used, fresh = Chat(load()), Chat(load())
    for chat in (used, fresh):
        chat.model.get_raw_model().model.to(torch.bfloat16)
    answer = used.ask((LONG,)).text
    follow_up = (LONG, Message("assistant", answer), Message("user", "And then?"))
    used.ask((*follow_up[:-1], Message("user", "And now?")))
    first = used.ask(follow_up, seeded)
    assert first.text == used.ask(follow_up, seeded).text == fresh.ask(follow_up, seeded).text
    assert first.usage
    assert first.usage.cached_tokens
    assert first.usage.cached_tokens % PREFILL_CHUNK == 0


def test_plain_predict_is_unchanged(load: Load) -> None:
    chat, plain = Chat(load()), load()
    chat.ask((LONG,))
    request = {"messages": [{"role": "user", "content": LONG.content}], "max_tokens": 5, "temperature": 1e-6}
    (ours,), (theirs,) = chat.model.predict(dict(request)), plain.predict(dict(request))
    assert (ours["choices"], ours["usage"]) == (theirs["choices"], theirs["usage"])
    assert len(chat.cache._slots) == 1


@pytest.mark.parametrize("options", [{"num_beams": 2}, {"use_cache": False}, {"prompt_lookup_num_tokens": 2}], ids=str)
def test_other_generation_modes_bypass_the_slots(load: Load, options: dict[str, Any]) -> None:
    chat = Chat(load())
    for name, value in options.items():
        setattr(chat.model.get_raw_model().generation_config, name, value)
    assert chat.count_cached((LONG,)) == chat.count_cached((LONG,)) == 0
    assert chat.cache._slots == []


@pytest.mark.parametrize(
    ("configured", "expected"), [(None, 1 << 20), (1 << 25, 1 << 25)], ids=["detected", "configured"]
)
def test_a_moved_model_has_the_budget_of_its_new_device(
    load: Load, monkeypatch: pytest.MonkeyPatch, configured: int | None, expected: int
) -> None:
    budgets = {"cpu": 1 << 30, "meta": 1 << 20}
    monkeypatch.setattr("phi3_ui.runtime.generation_hook.memory_budget", lambda device: budgets[device.type])
    pipeline = HookedPipeline(load().get_raw_model(), lambda _: True, configured)
    assert pipeline.cache_stats().budget_bytes == (configured or 1 << 30)
    with use_threads(1):
        pipeline.move_to("meta")  # stands in for a GPU
    assert pipeline.cache_stats().budget_bytes == expected
