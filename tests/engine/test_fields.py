"""Every generation parameter, with both demo models in their processes."""

import threading
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from phi3_ui.chat.types import CancelToken, ChatRequest, Completed, GenerationParams, Message, TextDelta
from phi3_ui.errors import UserError
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.runtime.generation_hook import GenerationHook, GenerationListener
from tests.conftest import Weights

GERMANY = "What is the capital of Germany?"  # both models: The capital of Germany is Berlin.
STORY = "Tell me a story about a fox."
GREEDY = GenerationParams(max_tokens=12, temperature=0.0)
WILD = GenerationParams(max_tokens=6, temperature=1.5, top_p=1.0)


def ask(model: HostedModel, params: GenerationParams, question: str = STORY) -> Completed:
    """Return the completed answer; its text must equal the streamed text."""
    events = list(model.answer(ChatRequest((Message("user", question),), params), CancelToken()))
    (end,) = [event for event in events if isinstance(event, Completed)]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == end.text
    return end


ask_once = cache(ask)  # for greedy answers that several tests compare with


def test_temperature_0_is_repeatable(hosted: HostedModel) -> None:
    assert ask(hosted, GREEDY).text == ask(hosted, replace(GREEDY, seed=1, top_p=0.5, top_k=7)).text


def test_equal_seeds_repeat_and_different_seeds_differ(hosted: HostedModel) -> None:
    texts = [ask(hosted, replace(WILD, seed=seed)).text for seed in (1, 2, 3)]
    assert ask(hosted, replace(WILD, seed=1)).text == texts[0]
    assert len(set(texts)) == 3


def test_without_a_seed_answers_vary(hosted: HostedModel) -> None:
    assert len({ask(hosted, WILD).text for _ in range(3)}) > 1


def test_concurrent_seeded_answers_equal_sequential_ones(hosted: HostedModel) -> None:
    alone = {seed: ask(hosted, replace(WILD, seed=seed)).text for seed in (4, 5, 6)}
    together: dict[int, str] = {}
    gate = threading.Barrier(3)

    def run(seed: int) -> None:
        gate.wait()
        together[seed] = ask(hosted, replace(WILD, seed=seed)).text

    threads = [threading.Thread(target=run, args=[seed]) for seed in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}], ids=str)
def test_sampling_from_one_candidate_is_greedy(hosted: HostedModel, narrow: dict[str, Any]) -> None:
    assert (
        ask(hosted, replace(WILD, **narrow)).text == ask_once(hosted, replace(GREEDY, max_tokens=WILD.max_tokens)).text
    )


def test_top_k_0_means_no_limit(hosted: HostedModel) -> None:
    unlimited = ask(hosted, replace(WILD, top_k=0, seed=1, temperature=3.0))
    assert unlimited.text != ask(hosted, replace(WILD, top_k=2, seed=1, temperature=3.0)).text


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (("ermany is",), "The capital of G"),
        (("Berlin", " is"), "The capital of Germany"),
        ((" is Berlin", " is Rome", "Germany is R"), "The capital of Germany"),
        (("The",), ""),
        (("is Berlin.",), "The capital of Germany "),
    ],
    ids=repr,
)
def test_an_answer_ends_before_a_stop_string(hosted: HostedModel, stop: tuple[str, ...], text: str) -> None:
    full, end = ask_once(hosted, GREEDY, GERMANY), ask(hosted, replace(GREEDY, stop=stop), GERMANY)
    assert (end.text, end.finish_reason) == (text, "stop")
    assert full.usage
    assert end.usage
    assert end.usage.prompt_tokens == full.usage.prompt_tokens
    assert end.usage.completion_tokens < full.usage.completion_tokens, "generation stops too"


@pytest.mark.parametrize("stop", [("Rome",), ("Berlin.\nAnd",), ("Berlin.!",)], ids=repr)
def test_an_unmatched_stop_string_changes_nothing(hosted: HostedModel, stop: tuple[str, ...]) -> None:
    assert ask(hosted, replace(GREEDY, stop=stop), GERMANY).text == "The capital of Germany is Berlin."


def test_a_partial_stop_string_is_emitted_when_max_tokens_ends_the_answer(hosted: HostedModel) -> None:
    end = ask(hosted, replace(GREEDY, stop=("Fermany is Rome",), max_tokens=5), GERMANY)
    assert (end.text, end.finish_reason) == ("The capital of Germany is", "length")


@pytest.mark.parametrize("tokens", [1, 7])
def test_max_tokens_is_exact_and_reported_as_the_finish_reason(hosted: HostedModel, tokens: int) -> None:
    end = ask(hosted, replace(GREEDY, max_tokens=tokens))
    assert end.finish_reason == "length"
    assert end.usage
    assert end.usage.completion_tokens == tokens


@pytest.mark.parametrize(
    "penalty",
    [{"repetition_penalty": 3.0}, {"presence_penalty": 2.0}, {"frequency_penalty": 2.0}],
    ids=str,
)
def test_penalties_reduce_repetition(hosted: HostedModel, penalty: dict[str, Any]) -> None:
    question, plain = "Repeat: ha ha ha ha ha ha ha ha ha ha", replace(GREEDY, max_tokens=30)
    plain_text, text = ask_once(hosted, plain, question).text, ask(hosted, replace(plain, **penalty), question).text
    assert text != plain_text
    assert repetition_rate(text) < repetition_rate(plain_text)


def repetition_rate(text: str) -> float:
    """Return the fraction of words that occurred before."""
    words = text.lower().split()
    return 1 - len(set(words)) / len(words)


def test_neutral_penalties_change_nothing(hosted: HostedModel) -> None:
    neutral = replace(GREEDY, repetition_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0)
    assert ask(hosted, neutral).text == ask_once(hosted, GREEDY).text


def test_all_fields_together(hosted: HostedModel) -> None:
    params = GenerationParams(24, 0.9, 0.9, 40, 1.1, 0.3, 0.3, ("\n\n", "fox"), 11)
    first = ask(hosted, params)
    assert ask(hosted, params).text == first.text
    assert "fox" not in first.text


@pytest.mark.parametrize(
    "params",
    [
        GenerationParams(max_tokens=0),
        GenerationParams(temperature=-1.0),
        GenerationParams(top_p=1.5),
        GenerationParams(top_k=-1),
        GenerationParams(repetition_penalty=-1.0),
        GenerationParams(presence_penalty=3.0),
        GenerationParams(frequency_penalty=3.0),
        GenerationParams(stop=("",)),
        GenerationParams(seed=2**31),
    ],
    ids=lambda params: str(params.as_dict()),
)
def test_an_out_of_range_value_is_rejected_by_name(hosted: HostedModel, params: GenerationParams) -> None:
    (name,) = params.as_dict()
    with pytest.raises(UserError, match=f"{name} cannot be .*; it must be ") as raised:
        ask(hosted, params)
    assert raised.value.code == "refused"


def test_a_control_token_may_be_a_stop_string_for_the_pipeline(weights: Weights) -> None:
    """The demo models never generate one, so the test feeds tokens to the hook."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights.checkpoint)
    texts: list[str] = []
    params = GenerationParams(stop=("<|im_start|>", "nothing"))
    hook = GenerationHook(tokenizer, params, CancelToken(), GenerationListener(texts.append))
    for token in tokenizer.encode("It is no", add_special_tokens=False):
        assert not hook.should_stop(torch.tensor([[1, 2, token]]), None)
    assert hook.should_stop(torch.tensor([[1, 2, tokenizer.convert_tokens_to_ids("<|im_start|>")]]), None)
    hook.finish()
    assert ("".join(texts), hook.is_stopped, hook.is_cut) == ("It is no", True, False)
