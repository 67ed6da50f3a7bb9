"""Parameters as arguments of transformers' `generate`: ranges, penalties and seeds, with a tiny model."""

import threading
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from phi3_ui.chat.sampling_params import MAX_STOP_STRINGS
from phi3_ui.chat.types import GenerationParams
from phi3_ui.runtime.sampling import Penalties, UnusableParamError, check_params, generate_arguments

pytestmark = pytest.mark.engine  # torch

PROMPT = torch.tensor([[1, 5, 9]])


@pytest.mark.parametrize(
    "params",
    [
        GenerationParams(max_tokens=0),
        GenerationParams(temperature=-0.1),
        GenerationParams(temperature=float("nan")),
        GenerationParams(temperature=float("inf")),
        GenerationParams(top_p=0.0),
        GenerationParams(top_p=1.1),
        GenerationParams(top_k=-1),
        GenerationParams(repetition_penalty=0.0),
        GenerationParams(presence_penalty=2.1),
        GenerationParams(frequency_penalty=-2.1),
        GenerationParams(stop=("a", "")),
        GenerationParams(stop=("a",) * (MAX_STOP_STRINGS + 1)),
        GenerationParams(seed=-1),
        GenerationParams(seed=2**31),
    ],
    ids=lambda params: str(params.as_dict()),
)
def test_values_out_of_range_are_refused_by_name_and_range(params: GenerationParams) -> None:
    (name,) = params.as_dict()
    with pytest.raises(UnusableParamError, match=f"^{name} cannot be .*; it must be "):
        check_params(params)


def test_the_limits_and_unset_params_are_valid() -> None:
    check_params(GenerationParams())
    check_params(GenerationParams(1, 0.0, 1.0, 0, 0.01, -2.0, 2.0, ("x",) * MAX_STOP_STRINGS, 0))
    check_params(GenerationParams(seed=2**31 - 1))


def test_penalties_are_openais_and_ignore_the_prompt() -> None:
    penalties = Penalties(presence=0.5, frequency=0.25)
    scores = torch.zeros(1, 12)

    assert torch.equal(penalties(PROMPT, scores), scores)
    answered = penalties(torch.cat([PROMPT, torch.tensor([[7, 9, 7, 7]])], 1), scores)

    expected = torch.zeros(1, 12)
    expected[0, 7], expected[0, 9] = -0.5 - 3 * 0.25, -0.5 - 0.25
    assert torch.equal(answered, expected)


@pytest.fixture(scope="module")
def model() -> Any:
    config = LlamaConfig(
        vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = LlamaForCausalLM(config).eval()
    made.generation_config = GenerationConfig(do_sample=True, pad_token_id=0, max_new_tokens=12)
    return made


def generate(model: Any, **params: Any) -> list[int]:
    arguments = generate_arguments(GenerationParams(**params))
    asked = {name: params[name] for name in ("temperature", "top_p") if params.get(name)}
    mask = torch.ones_like(PROMPT)
    (ids,) = model.generate(PROMPT, attention_mask=mask, **{**asked, **arguments}).tolist()
    return list(ids[PROMPT.shape[1] :])


def test_a_seed_repeats_without_touching_torchs_generator(model: Any) -> None:
    first = generate(model, seed=7)
    generate(model)
    state = torch.random.get_rng_state()
    assert generate(model, seed=7) == first
    assert len({tuple(generate(model, seed=seed)) for seed in range(5)}) == 5
    assert torch.equal(torch.random.get_rng_state(), state)


def test_seeded_sampling_respects_the_other_parameters(model: Any) -> None:
    greedy = generate(model, temperature=0.0)
    assert generate(model, seed=7, temperature=0.0) == greedy
    assert generate(model, seed=7, top_k=1) == greedy
    assert generate(model, seed=7, top_p=1e-6) == greedy
    assert generate(model, seed=7, temperature=1e-4) == greedy
    assert generate(model, seed=7, temperature=5.0) != generate(model, seed=7, temperature=0.7)


def test_seeded_tokens_follow_their_probabilities(model: Any) -> None:
    with torch.no_grad():
        expected = model(PROMPT).logits[0, -1].softmax(-1)
    counts = torch.zeros(16)
    for seed in range(500):
        arguments = generate_arguments(GenerationParams(seed=seed, top_k=0))
        mask = torch.ones_like(PROMPT)
        counts[model.generate(PROMPT, attention_mask=mask, max_new_tokens=1, **arguments)[0, -1]] += 1
    # Pearson's chi-square, 15 degrees of freedom: above 45 once in 10,000 times, and seeds do not vary.
    assert ((counts - 500 * expected) ** 2 / (500 * expected)).sum() < 45


def test_concurrent_seeded_answers_are_independent(model: Any) -> None:
    alone = [generate(model, seed=seed) for seed in range(6)]
    together: dict[int, list[int]] = {}
    gate = threading.Barrier(6)

    def run(seed: int) -> None:
        gate.wait()
        together[seed] = generate(model, seed=seed)

    threads = [threading.Thread(target=run, args=[seed]) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[seed] for seed in range(6)] == alone


def test_a_repetition_penalty_reaches_generate(model: Any) -> None:
    answer = generate(model, temperature=0.0, repetition_penalty=1e6)
    assert len(set(answer)) == len(answer)
