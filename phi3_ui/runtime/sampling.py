"""GenerationParams as arguments of transformers' `generate`, for everything that MLflow's flavour rejects or gets wrong."""

import math
from collections.abc import Callable
from typing import Any

from phi3_ui.chat.sampling_params import find_invalid_param
from phi3_ui.chat.types import GenerationParams


class UnusableParamError(ValueError):
    """A parameter is out of range; the message names both."""

    error_code = "INVALID_PARAMETER_VALUE"


def check_params(params: GenerationParams) -> None:
    """Raise UnusableParamError for a value that no model supports. See sampling_params.py for the ranges."""
    if param := find_invalid_param(params):
        value = getattr(params, param.name)
        raise UnusableParamError(f"{param.name} cannot be {value!r}; it must be in the range {param.interval}.")


def generate_arguments(params: GenerationParams) -> dict[str, Any]:
    """Return the keyword arguments of `generate` that override those of MLflow's flavour."""
    arguments: dict[str, Any] = {}
    if params.temperature == 0:
        # transformers rejects temperature 0; greedy decoding is a separate mode.
        arguments |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    else:
        if params.temperature is not None:
            arguments["do_sample"] = True
        if params.top_k is not None:
            arguments["top_k"] = params.top_k
    if params.repetition_penalty is not None:
        arguments["repetition_penalty"] = params.repetition_penalty
    if params.presence_penalty or params.frequency_penalty:
        arguments["logits_processor"] = [Penalties(params.presence_penalty or 0.0, params.frequency_penalty or 0.0)]
    if params.seed is not None:
        arguments["custom_generate"] = _seeded_generate(params.seed)
    return arguments


class Penalties:
    """Logits processor: OpenAI's presence and frequency penalties, over the tokens of the answer only."""

    def __init__(self, presence: float, frequency: float) -> None:
        self._presence, self._frequency = presence, frequency
        self._prompt_len: int | None = None

    def __call__(self, ids: Any, scores: Any) -> Any:
        """Return the penalised scores. `ids` is (1, tokens so far), `scores` (1, vocabulary)."""
        if self._prompt_len is None:
            self._prompt_len = ids.shape[1]
        answer = ids[:, self._prompt_len :]
        counts = scores.new_zeros(scores.shape).scatter_add_(1, answer, scores.new_ones(answer.shape))
        return scores - self._frequency * counts - self._presence * (counts > 0)


class _SeededDraw:
    """The last logits processor: draws the token with its own generator and masks all others."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._generator: Any = None

    def __call__(self, _ids: Any, scores: Any) -> Any:
        import torch

        if self._generator is None:
            self._generator = torch.Generator(device=scores.device).manual_seed(self._seed)
        token = torch.multinomial(scores.softmax(-1), 1, generator=self._generator)
        return torch.full_like(scores, -math.inf).scatter_(1, token, 0.0)


def _seeded_generate(seed: int) -> Callable[..., Any]:
    """Return a `custom_generate` that decodes as usual, but draws tokens with its own seeded generator, not torch's process-wide one.

    Only a `custom_generate` gets the complete list of processors: those passed to generate run before temperature, top_k and
    top_p.
    """

    def decode(
        model: Any,
        input_ids: Any,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **inputs: Any,
    ) -> Any:
        if generation_config.do_sample:
            logits_processor = type(logits_processor)([*logits_processor, _SeededDraw(seed)])
            generation_config.do_sample = False  # the drawn token is now the most likely one
        return model._sample(input_ids, logits_processor, stopping_criteria, generation_config, **inputs)

    return decode
